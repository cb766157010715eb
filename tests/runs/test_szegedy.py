"""The studies of Szegedy et al. on digits: tables, resume, and what is refused."""

import contextlib
import copy
import csv
import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from advgan_jax import models, runs
from advgan_jax.configs import szegedy as configured
from advgan_jax.runs.papers import layerwise_models, szegedy
from advgan_jax.runs.papers.rows import TargetModel, published
from advgan_jax.runs.papers.szegedy_models import SzegedyArtifacts, parse
from advgan_jax.runs.run import Run
from advgan_jax.trainers import checkpointed
from advgan_jax.training import fit, full_batch

TINY = {
    "models": ("fc10_1e4", "ae400_10"),
    "half_models": ("fc10_1e4@1", "fc10_1e4@2"),
    "spectral_models": ("ae400_10",),
    "units.models": ("ae400_10",),
    "units.num_permutations": 50,
    "networks.fc100_100_10.hidden": (20, 10),
    "networks.ae400_10.hidden": (12,),
    "autoencoder.units": 12,
    "autoencoder.num_images": 300,
    "autoencoder.max_iterations": 20,
    "full_batch.max_iterations": 30,
    "evaluation.num_images": 40,
    "attack": "deepfool",
    "random_targets": False,
    "layerwise.variants": ("dropout", "all layers"),
    "layerwise.num_epochs": 1,
    "layerwise.num_seeds": 2,
    "layerwise.pool_size": 50,
    "layerwise.num_replaced": 10,
    # In the place of L-BFGS, which would be compiled into each of the trainings.
    "layerwise.attack": ConfigDict({"kind": "fgsm", "epsilon": 0.1}),
}


@pytest.fixture(scope="module")
def load(get_config):
    def load(**changes):
        return get_config("szegedy", **(copy.deepcopy(TINY) | changes))

    return load


@pytest.fixture(scope="module")
def every(load, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("szegedy")
    return workdir, runs.train(load(), workdir)


def table(workdir, name):
    with (workdir / "tables" / f"{name}.csv").open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_study_leaves_tables_and_figures(every):
    workdir, _ = every
    figures = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert figures == {
        "distortion",
        "cross-model",
        "cross-training-set",
        "spectral-ae400_10",
        "units-ae400_10-Dense_1",
        "layerwise",
    }
    tables = {path.stem for path in (workdir / "tables").glob("*.md")}
    assert tables == set(szegedy.STUDIES) | {"halves"}
    for kind in ("csv", "json"):
        assert tables == {path.stem for path in (workdir / "tables").glob(f"*.{kind}")}


@pytest.mark.slow
def test_rows_are_of_attacked_nets_and_of_others(every):
    _, rows = every
    found = [(row["target_model"], row["attack"]) for row in rows]
    assert found[:2] == [(name, "deepfool") for name in TINY["models"]]
    assert {name for name, attack in found if attack is None} == {
        *TINY["half_models"],
        *("fc100_100_10, dropout", "fc100_100_10-seed1, dropout"),
        *("fc100_100_10, all layers", "fc100_100_10-seed1, all layers"),
    }
    assert all(row["robust_accuracy"] == 0 for row in rows[:2])


@pytest.mark.slow
def test_distortion_is_that_of_images_that_were_right(every):
    workdir, rows = every
    for line, row in zip(table(workdir, "distortion"), rows, strict=False):
        assert float(line["accuracy under attack"]) == row["robust_accuracy"]
        assert float(line["av. distortion"]) == pytest.approx(row["rms_mean"])
        assert not any(name.endswith("(paper)") for name in line)  # digits, not MNIST


@pytest.mark.slow
def test_made_for_a_net_they_fool_it(every):
    lines = table(every[0], "cross-model")
    titles = ["FC10(1e-4)", "AE400-10"]
    assert [line["made for"] for line in lines] == [
        *titles,
        "Gaussian 0.1",
        "Gaussian 0.3",
        "clean",
    ]
    for line in lines[:2]:
        assert float(line[line["made for"]]) == 1
    assert float(lines[0]["AE400-10"]) < 1
    assert float(lines[2]["av. distortion"]) == 0.1


@pytest.mark.slow
def test_halves_have_seen_their_own_images_only(every):
    first, second = table(every[0], "halves")
    assert (first["model"], second["model"]) == ("FC10(1e-4)", "FC10(1e-4)'")
    assert float(first["error P1"]) < float(first["error P2"])
    assert float(second["error P2"]) < float(second["error P1"])
    lines = table(every[0], "cross-training-set")
    names = [line["made for"] for line in lines]
    small = names[2].removeprefix("Gaussian ")
    assert names == [
        "FC10(1e-4)",
        "FC10(1e-4)'",
        f"Gaussian {small}",
        "FC10(1e-4) to 0.2",
        "FC10(1e-4)' to 0.2",
        "Gaussian 0.2",
        "clean",
    ]
    sizes = [float(line["av. distortion"]) for line in lines]
    assert float(small) == pytest.approx(np.mean(sizes[:2]), abs=0.005)
    assert sizes[3:] == [0.2, 0.2, 0.2, 0]


@pytest.mark.slow
def test_measured_expansions_are_below_the_bounds(every):
    lines = table(every[0], "spectral")
    assert [line["layer"] for line in lines] == [
        "Dense_0",
        "Dense_1",
        "network",
    ]
    for line in lines:
        # 1e-5: expansions are measured in float32.
        assert 0 < float(line["lower bound"]) <= float(line["upper bound"]) * 1.00001


@pytest.mark.slow
def test_layerwise_trains_in_the_chosen_ways(every):
    lines = table(every[0], "layerwise")
    names = [line["adversarial examples of"] for line in lines]
    assert names == ["dropout", "all layers"]
    for line in lines:
        assert 0 < float(line["test error"]) < 1
        assert float(line["standard deviation"]) > 0
        assert line["seeds"] == "2"
    assert 0 < float(lines[1]["p, dropout"]) <= 1
    assert not lines[0].get("p, dropout")
    known = layerwise_models.variants(2)
    assert configured.get_config().layerwise.variants == tuple(known)
    assert known["layer 2"] == (2,)
    assert known["all layers"] == (0, 1, 2)


def test_seeds_of_layerwise_training_have_their_own_order_of_images(
    load, tmp_path, digits, monkeypatch
):
    keys = []

    def train(options, state, *_, **__):
        keys.append(jax.random.key_data(options.order_key).tolist())
        return state

    monkeypatch.setattr(checkpointed, "train", train)
    artifacts = SzegedyArtifacts(Run(load(), tmp_path, digits))
    model = TargetModel("fc100_100_10", variant="dropout")
    artifacts.trained(model)
    artifacts.trained(model._replace(seed=1))
    artifacts.trained(model._replace(variant="all layers"))
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]
    folders = [artifacts.folder(model._replace(seed=seed))[0] for seed in (0, 1)]
    assert folders[0] != folders[1]


@pytest.mark.slow
def test_images_held_out_are_not_trained_on_and_test_images_not_shown(load, tmp_path):
    chosen = {"study": "layerwise", "layerwise.num_validation": 1237}
    rows = runs.train(load(**chosen, **{"layerwise.num_seeds": 1}), tmp_path)
    assert rows == []
    lines = table(tmp_path, "layerwise")
    assert all("test error" not in line for line in lines)
    assert all(0 < float(line["validation error"]) <= 1 for line in lines)
    metrics = next(tmp_path.rglob("metrics.jsonl")).read_text(encoding="utf8")
    assert json.loads(metrics.splitlines()[-1])["step"] == 200 // 128


def written(workdir):
    """Times of all that a run has made, but for what it writes in any case."""
    kept = ("evaluations", "rows", "target_models")
    files = (path for name in kept for path in (workdir / name).rglob("*"))
    return {path: path.stat().st_mtime_ns for path in files if path.is_file()}


@pytest.mark.slow
def test_resume_repeats_nothing(every, load):
    workdir, rows = every
    before = written(workdir)
    assert runs.train(load(), workdir, resume=True) == rows
    # Others are measured beside what is there, and no model is trained again.
    other = runs.train(
        load(study="distortion", models=("fc10_1e4",)), workdir, resume=True
    )
    assert [row["target_model"] for row in other if row["attack"]] == ["fc10_1e4"]
    assert len(table(workdir, "distortion")) == 1
    assert written(workdir) == before
    with pytest.raises(ValueError, match="already; continue it with --resume"):
        runs.train(load(), workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "again"),
    [
        ("full_batch.calls_per_checkpoint", 7, False),
        ("full_batch.max_iterations", 7, True),
        ("autoencoder.max_iterations", 7, False),  # of another model
        ("networks.fc10_1e4.weight_decay", (0.5,), True),
        ("networks.fc100_100_10.weight_decay", (0.5, 0.5, 0.5), False),
        ("evaluation.num_images", 7, True),
        ("attack", "fgsm", True),
        ("attacks.pgd.num_steps", 7, False),
        ("noise", (0.5,), False),
        ("target_class", 3, True),
        ("seed", 1, True),
    ],
)
def test_a_setting_measures_again_what_it_decides_and_no_more(
    load, digits, tmp_path, setting, value, again
):
    def place(**changes):
        config = load(**changes)
        (study,) = szegedy.STUDIES["distortion"](config)
        artifacts = SzegedyArtifacts(runs.Run(config, tmp_path, digits))
        entry = study.rows[0].entries["av. distortion"]
        return [artifacts.depends_on(entry), artifacts.describe(entry.on)]

    assert (place() != place(**{setting: value})) == again


@pytest.mark.slow
def test_interrupted_training_resumes_to_the_same_bits(load, tmp_path, monkeypatch):
    config = load(
        study="units",
        **{"full_batch.max_iterations": 40, "units.models": ("fc100_100_10",)},
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    runs.train(config, whole)
    calls = []
    original = full_batch.until_converged

    def stopping(*args, **kwargs):
        run = original(*args, **kwargs)

        def traced(state, batch):
            calls.append(1)
            return run(state, batch)

        return traced

    asked = iter([False, False])  # a signal comes before the third call
    with monkeypatch.context() as patched:
        patched.setattr(full_batch, "until_converged", stopping)
        stop = contextlib.nullcontext(lambda: next(asked, True))
        patched.setattr(fit, "interruptible", lambda: stop)
        with pytest.raises(runs.Stopped, match="step 20 of"):
            runs.train(config, parts)
    runs.train(config, parts, resume=True)
    found = [
        dict(np.load(next((folder / "target_models").glob("*.npz"))))
        for folder in (whole, parts)
    ]
    assert calls == [1]  # traced once
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])
    assert not list((parts / "target_models").rglob("checkpoints"))


@pytest.mark.parametrize("most", [10, 600])
def test_signal_in_the_last_call_is_heeded(load, tmp_path, digits, monkeypatch, most):
    """Whether it is the last by their number or, at a loose tolerance, by the loss."""
    loose = {"max_iterations": most, "value_tolerance": 1e9, "calls_per_checkpoint": 1}
    config = load(**{f"full_batch.{name}": value for name, value in loose.items()})
    asked = iter([False])  # before the first call
    stop = contextlib.nullcontext(lambda: next(asked, True))
    monkeypatch.setattr(fit, "interruptible", lambda: stop)
    model, run = parse("fc10_1e4"), runs.Run(config, tmp_path, digits)
    with pytest.raises(runs.Stopped, match="after the last step of"):
        SzegedyArtifacts(run).trained(model)
    before = written(tmp_path)
    SzegedyArtifacts(run).trained(model)  # the result is there
    assert written(tmp_path) == before


@pytest.mark.slow
def test_any_model_and_any_attack(load, tmp_path):
    config = load(
        study="cross-model",
        models=("fc10_1e4", "small"),
        attack="fgsm",
        **{"target_training.num_epochs": 2, "evaluation.num_images": 60},
    )
    rows = runs.train(config, tmp_path)
    assert [row["target_model"] for row in rows] == ["fc10_1e4", "small"]
    assert [line["made for"] for line in table(tmp_path, "cross-model")][:2] == [
        "FC10(1e-4)",
        "small",
    ]


@pytest.mark.slow
def test_halves_of_a_convolutional_net_do_not_meet(load, tmp_path, digits, monkeypatch):
    seen = []
    original_fit = fit.fit

    def watching(state, run, data, plan, **kwargs):
        seen.append(np.asarray(data.images))
        return original_fit(state, run, data, plan, **kwargs)

    monkeypatch.setattr(fit, "fit", watching)
    config = load(**{"target_training.num_epochs": 1})
    artifacts = SzegedyArtifacts(runs.Run(config, tmp_path, digits))
    found = [artifacts.trained(parse(name)) for name in ("small@1", "small@2")]
    assert sum(map(len, seen)) == len(digits.train)
    first, second = ({image.tobytes() for image in images} for images in seen)
    assert not first & second
    assert isinstance(found[0][0], models.SmallNet)


@pytest.mark.slow
def test_target_models_may_be_shared(load, every, tmp_path):
    shared = tmp_path / "shared"
    shutil.copytree(every[0] / "target_models", shared)
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
    runs.train(load(study="units", target_model_dir=str(shared)), tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in shared.rglob("*")} == before
    assert not (tmp_path / "run" / "target_models").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "unit"}, r"Unknown study 'unit'. Did you mean 'units'"),
        ({"attack": "pgdd"}, "Unknown attack 'pgdd'"),
        ({"models": ("fc11",)}, "Unknown model 'fc11'. Did you mean"),
        ({"half_models": ("fc10_1@3",)}, "Unknown model 'fc10_1@3'"),
        (
            {"models": ("fc10_1", "fc10_1@1")},
            "`models` must be different models, got FC10",
        ),
        ({"models": ("C",)}, "needs images of at least 16 by 16"),
        ({"networks.fc10_1e4.weight_decay": (1.0, 1.0)}, "must be 1 numbers"),
        (
            {"full_batch.iterations_per_call": 0},
            "`full_batch.iterations_per_call` must be",
        ),
        ({"autoencoder.num_images": 2000}, "from 1 to the 1437 training images"),
        ({"autoencoder.units": 13}, r"`networks.ae400_10.hidden` must be \(13,\)"),
        ({"units.num_permutations": 0}, "`units.num_permutations` must be"),
        ({"units.num_images": 361}, "from 1 to the 360 test images; got 361"),
        ({"units.models": ("fc10_1",)}, "must have hidden units, 'fc10_1' has none"),
        ({"evaluation.batch_size": 0}, "`evaluation.batch_size` must be"),
        (
            {"noise": (-0.1,)},
            "`noise` must be a tuple of values, each a finite number >= 0",
        ),
        ({"layerwise.variants": ("layer 3",)}, "Did you mean 'layer 2'"),
        (
            {"layerwise.variants": ()},
            "`layerwise.variants` must be one or more different",
        ),
        ({"layerwise.model": "A"}, "Unknown model of `layerwise` 'A'"),
        ({"layerwise.decays": (0.0, 0.0)}, "`layerwise.decays` must be 3 numbers"),
        ({"layerwise.num_epochs": 0}, "`layerwise.num_epochs` must be at least 1"),
        (
            {"layerwise.num_validation": 1437},
            "`layerwise.num_validation` must be less than the 1437",
        ),
        ({"layerwise.num_mixed": 0}, "`layerwise.num_mixed` must be"),
        ({"layerwise.attack.kind": "fgs"}, "Unknown layerwise.attack.kind 'fgs'"),
        ({"layerwise.batch_size": 5000}, "`batch_size` must be from 1 to the 1437"),
    ],
)
def test_wrong_configuration_writes_nothing(load, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.train(load(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_published_tables_are_complete():
    found = {name: published("szegedy", name) for name in (*szegedy.STUDIES, "halves")}
    assert not found["units"]
    assert not found["spectral"]
    assert len(found["cross-model"]) == 8 * 6
    assert len(found["cross-training-set"]) == 8 * 3
    assert len(found["halves"]) == 3 * 4
    assert found["layerwise"]["all layers", "test error"] == 0.012
    for title in {row for row, _ in found["distortion"]}:
        assert found["cross-model"][title, title] == 1
        assert found["distortion"][title, "test error"] < 0.21


def test_printed_numbers_stand_beside_those_of_mnist_alone(load):
    for study in szegedy.STUDIES.values():
        assert not any(each.published for each in study(load()))
    (found,) = szegedy.STUDIES["distortion"](load(dataset="mnist"))
    assert found.published["FC10(1e-4)", "av. distortion"] == 0.062
