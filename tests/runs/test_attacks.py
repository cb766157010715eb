"""The comparison of attacks: rows, figures, resumption and rejected settings."""

import json
import shutil

import numpy as np
import pytest

from advgan_jax import runs
from advgan_jax.evaluation import _sequence, evaluate_many
from advgan_jax.reporting import formats, read_metrics
from advgan_jax.runs.methods import attacks
from advgan_jax.runs.workdir import WRITTEN

SMALL = {
    "names": ("advgan", "fgsm", "transfer", "pgd_l2", "deepfool"),
    "epsilons": (0.1,),
    "epsilon_l2": 0.5,
    "epsilons_l2": (1.0,),
    "attacks.transfer.num_steps": 5,
    "attacks.pgd_l2.num_steps": 5,
    "evaluation.num_images": 40,
    "evaluation.batch_size": 40,
    "evaluation.grid_images": 3,
}


@pytest.fixture(scope="module")
def load(get_config, finished, tmp_path_factory):
    """A small comparison that takes the target model of the finished run."""
    target_model_dir = tmp_path_factory.mktemp("shared") / "target_models"
    shutil.copytree(finished[0] / "target_models", target_model_dir)

    def load(**changes):
        return get_config(
            "attacks", **(SMALL | {"target_model_dir": str(target_model_dir)} | changes)
        )

    return load


@pytest.fixture(scope="module")
def compared(load, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("compared")
    return workdir, runs.train(load(), workdir)


def test_rows_contain_the_bound_of_each_attack(compared):
    _, rows = compared
    found = [(r["attack"], r["threat_model"], r["epsilon"], r["norm"]) for r in rows]
    assert found == [
        ("advgan", "semi-white-box", 0.3, "linf"),
        ("fgsm", "white-box", 0.3, "linf"),
        ("transfer", "transfer", 0.3, "linf"),
        ("pgd", "white-box", 0.5, "l2"),
        ("deepfool", "white-box", None, None),
        ("ensemble", "white-box", 0.3, "linf"),
        ("ensemble", "white-box", 0.5, "l2"),
    ]
    by_name = {(r["attack"], r["norm"]): r["robust_accuracy"] for r in rows}
    assert by_name["ensemble", "linf"] <= min(
        by_name[name, "linf"] for name in ("advgan", "fgsm", "transfer")
    )
    # Without a bound DeepFool succeeds on every image, within 0.5 it does not.
    assert by_name["deepfool", None] < by_name["ensemble", "l2"]
    assert by_name["ensemble", "l2"] <= by_name["pgd", "l2"]
    assert {r["num_images"] for r in rows} == {40}


def test_figures(compared):
    workdir, _ = compared
    assert {path.name for path in workdir.iterdir()} <= {*WRITTEN, "target_models"}
    figures = workdir / "figures"
    for name in ("adversarial", "robustness-linf", "robustness-l2"):
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_interrupted_comparison_repeats_nothing(compared, load, tmp_path, monkeypatch):
    evaluated = []

    def counting(logits_fn, bound, *args, **kwargs):
        evaluated.extend(bound)
        if evaluated == ["advgan", "fgsm", "transfer"]:
            raise KeyboardInterrupt
        return evaluate_many(logits_fn, bound, *args, **kwargs)

    monkeypatch.setattr(attacks, "evaluate_many", counting)
    with pytest.raises(KeyboardInterrupt):
        runs.train(load(), tmp_path)
    rows = runs.train(load(), tmp_path, resume=True)
    assert evaluated == ["advgan", "fgsm", "transfer", *SMALL["names"][2:]]
    clocks = ("seconds", "images_per_second")
    for row, whole in zip(rows, compared[1], strict=True):
        assert {k: v for k, v in row.items() if k not in clocks} == {
            k: v for k, v in whole.items() if k not in clocks
        }
    assert read_metrics(tmp_path) == read_metrics(compared[0])


def test_other_protocol_measures_again(compared, load, tmp_path):
    config = load(names=("fgsm",))
    runs.train(config, tmp_path)
    with config.unlocked():
        config.evaluation.num_images = 20
    rows = runs.train(config, tmp_path, resume=True)
    assert {row["num_images"] for row in rows} == {20}


def test_random_targets_are_other_classes(load, tmp_path):
    config = load(names=("fgsm", "deepfool"), random_targets=True)
    rows = runs.train(config, tmp_path)
    assert [row["success_over"] for row in rows] == ["correct-not-target"] * 2
    (path,) = (tmp_path / "evaluations").glob("deepfool-*")
    (evaluation,) = formats.EVALUATIONS.load(path).values()
    assert not np.any(evaluation.labels == evaluation.target_labels)
    assert len(np.unique(evaluation.target_labels)) > 5


def test_one_target_class_for_all(load, tmp_path):
    rows = runs.train(load(names=("fgsm",), target_class=3), tmp_path)
    assert rows[0]["targeted"]


@pytest.mark.slow
def test_autoattack_resumes_and_has_a_row_for_each_attack(load, tmp_path, monkeypatch):
    monkeypatch.setattr(_sequence, "_NUM_STEPS", 5)
    monkeypatch.setattr(_sequence, "_NUM_QUERIES", 20)
    calls = []

    class Killed(_sequence.TimedAttack):
        def __call__(self, task, *arguments):
            calls.append(self.attack.name)
            if calls == ["apgd", "apgd_targeted", "fab_targeted"]:
                raise KeyboardInterrupt
            return super().__call__(task, *arguments)

    monkeypatch.setattr(_sequence, "TimedAttack", Killed)
    config = load(names=("fgsm", "autoattack"), epsilon=0.15)
    with pytest.raises(KeyboardInterrupt):
        runs.train(config, tmp_path)
    rows = runs.train(config, tmp_path, resume=True)
    assert calls[3:] == ["fab_targeted", "square"]
    fgsm, whole, *parts, ensemble = rows
    attacks_run = ("apgd-ce", "apgd-t", "fab-t", "square")
    assert [row["attack"] for row in parts] == [f"autoattack:{n}" for n in attacks_run]
    robust = [row["robust_accuracy"] for row in parts]
    assert robust == sorted(robust, reverse=True)
    assert 0 < robust[0] < whole["clean_accuracy"]
    assert whole["robust_accuracy"] == robust[-1] <= fgsm["robust_accuracy"]
    assert ensemble["robust_accuracy"] <= robust[-1]
    assert {(row["epsilon"], row["norm"]) for row in rows} == {(0.15, "linf")}
    entry = json.loads((tmp_path / "evaluations" / "autoattack.json").read_text())
    assert entry["after"] == {
        name: round(100 * value, 2)
        for name, value in zip(attacks_run, robust, strict=True)
    }
    assert (entry["name"], entry["dataset"]) == ("small", "digits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ()}, "`names` must be one or more different values"),
        ({"names": ("fgsn",)}, r"Unknown attack 'fgsn'.*fgsm"),
        ({"names": ("ilcm",), "random_targets": True}, "`ilcm` is never targeted"),
        (
            {"names": ("autoattack",), "target_class": 1},
            "`autoattack` is never targeted",
        ),
        (
            {"names": ("autoattack",), "evaluation.levels": 256},
            "AutoAttack rounds no images",
        ),
        ({"attacks.autoattack.version": "fast"}, "attacks.autoattack.version 'fast'"),
        ({"random_targets": True}, "remove `advgan` from"),
        ({"random_targets": True, "target_class": 3}, "exclude each other"),
        ({"epsilons_l2": (-1.0,)}, "`epsilons_l2` must be a tuple of values, each"),
        ({"surrogate.target_model": "D"}, "Unknown surrogate.target_model 'D'"),
        ({"surrogate.seed": 0}, "describes the target model itself"),
        ({"attacks.transfer.kind": "advgan"}, "A generator has no hyper-parameters"),
        ({"target_class": 10}, r"`target_class` must be in \[0, 10\), got 10"),
        ({"attacks.pgd.num_restarts": 0}, "`attacks.pgd.num_restarts` must be"),
        ({"attacks.lbfgs.solver": "foo"}, "Unknown attacks.lbfgs.solver 'foo'"),
        ({"names": ("lbfgs",), "attacks.lbfgs.num_steps": 0}, "`num_steps` must be"),
        ({"attacks.deepfool.overshoot": np.nan}, "`attacks.deepfool.overshoot` must"),
        ({"attacks.pgd_l2.norm": "l1"}, r"Unknown norm of an attack 'l1'.*l2, linf"),
    ],
)
def test_wrong_configuration_writes_nothing(load, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.train(load(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()
