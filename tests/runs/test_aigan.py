"""AI-GAN's runs on digits: both stages, resumption and the comparison."""

import json

import jax
import numpy as np
import pytest

import advgan_jax
from advgan_jax import runs
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.evaluation import evaluate
from advgan_jax.reporting import read_metrics
from advgan_jax.reporting.training_time import TrainingTimer, training_seconds
from advgan_jax.runs.workdir import WRITTEN
from advgan_jax.trainers import session
from advgan_jax.training import fit

TIMED = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def sharing(get_config, finished):
    """Loads a configuration with the target model of the finished AdvGAN run."""

    def load(name="aigan", **changes):
        return get_config(
            name, target_model_dir=str(finished[0] / "target_models"), **changes
        )

    return load


@pytest.fixture(scope="module")
def switches():
    """The steps at which the curves of each run mark a switch, the latest last."""
    shown, draw = [], session.training_curves

    def watched(rows, *, switches):
        shown.append(switches)
        return draw(rows, switches=switches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "training_curves", watched)
        yield shown


@pytest.fixture(scope="module")
def trained(sharing, tmp_path_factory, switches):
    """A finished run and its rows."""
    workdir = tmp_path_factory.mktemp("aigan")
    rows = runs.train(sharing(), workdir)
    assert switches[-1] == [22]  # other runs of this module may come before or after
    return workdir, rows


def untimed(rows):
    return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


@pytest.mark.slow
def test_writes_everything_into_the_workdir(trained):
    workdir, rows = trained
    assert [(row["attack"], row["target_class"]) for row in rows] == [
        ("aigan-stage-one", None),
        *(("aigan", number) for number in range(10)),
        ("aigan", None),
    ]
    assert {row["success_over"] for row in rows} == {"correct-not-target"}
    assert max(row["linf_max"] for row in rows) <= 0.3 + 1e-6
    # 22 batches of 64 in an epoch of each stage, in one log.
    assert [line["step"] for line in read_metrics(workdir)] == [22, 44]
    assert 0 < training_seconds(workdir) < 600
    assert {path.name for path in workdir.iterdir()} <= {*WRITTEN, "target_models"}
    names = ("pairs-stage_one", "pairs-stage_two", "perturbations", "curves")
    for name in names:
        path = workdir / "figures" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_pairs_leave_out_the_class_itself(trained):
    workdir, rows = trained
    pairs = json.loads((workdir / "pairs.json").read_text())["stage_two"]
    assert [pairs["rates"][i][i] for i in range(10)] == [None] * 10
    trials, successes = np.array(pairs["trials"]), np.array(pairs["successes"])
    assert (np.diag(trials) == 0).all()
    rates = [row["attack_success_rate"] for row in rows[1:11]]
    np.testing.assert_allclose(successes.sum(axis=0) / trials.sum(axis=0), rates)
    assert pairs["success_mean"] == pytest.approx(np.mean(rates))


@pytest.mark.slow
def test_generator_is_loaded_as_an_attack(trained, digits, digits_logits_fn):
    attack = advgan_jax.load_generator(trained[0])
    images, labels = digits.test.images[:20], digits.test.labels[:20]
    wanted = (labels + 1) % 10
    moved = {
        name: attack(digits_logits_fn, images, classes, targeted=True)
        for name, classes in {"next": wanted, "over": (labels + 2) % 10}.items()
    }
    assert 0 < np.abs(moved["next"] - images).max() <= 0.3 + 1e-7
    assert np.abs(moved["next"] - moved["over"]).max() > 1e-3
    result = evaluate(digits_logits_fn, attack, images, labels, target_labels=wanted)
    assert result.num_images == 20
    with pytest.raises(ValueError, match=r"got targeted=False.*`targeted=True`"):
        attack(digits_logits_fn, images, labels)
    first = advgan_jax.load_generator(trained[0] / "stage_one")
    earlier = first(digits_logits_fn, images, wanted, targeted=True)
    assert np.abs(moved["next"] - earlier).max() > 1e-3


@pytest.mark.slow
def test_interrupted_run_resumes_to_the_same_bits(
    sharing, trained, tmp_path, stop_before
):
    """Signals come in stage one, at the switch and in stage two."""
    calls = stop_before(10, 22, 30)
    for stopped in ("step 10 of AI-GAN, stage 1", "22 of .*stage 1", "30 of .*stage 2"):
        with pytest.raises(runs.Stopped, match=stopped):
            runs.train(sharing(), tmp_path, resume=bool(calls))
    rows = runs.train(sharing(), tmp_path, resume=True)
    assert len(calls) == 44
    assert untimed(rows) == untimed(trained[1])
    assert same_state(tmp_path, trained[0])
    assert same_state(tmp_path / "stage_one", trained[0] / "stage_one")
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 22, 30, 44]


def same_state(workdir, other):
    """Whether the last checkpoints of two folders have the same bits."""
    ours, theirs = (jax.tree.leaves(last_state(folder)) for folder in (workdir, other))
    pairs = zip(ours, theirs, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def last_state(workdir):
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = checkpoints.restore()
    return state | {"key": jax.random.key_data(state["key"])}


@pytest.mark.slow
def test_finished_run_repeats_nothing(sharing, trained, monkeypatch):
    workdir, rows = trained
    monkeypatch.setattr(fit, "fit", None)
    monkeypatch.setattr(runs.methods.aigan, "evaluate_per_class", None)
    assert runs.train(sharing(), workdir, resume=True) == rows


@pytest.mark.slow
def test_without_the_attacker(sharing, tmp_path, switches):
    changes = {"stage_one.num_epochs": 0, "stage_two.num_epochs": 2}
    rows = runs.train(sharing(**changes), tmp_path)
    assert {row["attack"] for row in rows} == {"aigan"}
    assert not (tmp_path / "stage_one").exists()
    assert switches[-1] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"discriminator.num_heads": 3},
            "`discriminator.num_heads` must be an integer from 1 to 2",
        ),
        ({"loss.class_weight": -1.0}, "`loss.class_weight` must be a finite number"),
        (
            {"stage_two.num_epochs": -9},
            "`stage_two.num_epochs` must be an integer >= 0",
        ),
        ({"loss.adversarial": "dlr"}, "`confidence` belongs to the margin loss"),
        ({"generator.widths": (4, 8)}, "must be a tuple of exactly 3 values"),
        ({"attacker.num_steps": -1}, "`attacker.num_steps` must be an integer"),
        ({"attacker.step_size": -0.1}, "`attacker.step_size` must be"),
        ({"attacker.loss": "margins"}, "'margins'"),
    ],
)
def test_wrong_configuration_writes_nothing(sharing, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.train(sharing(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_comparison_trains_missing_generators_once(
    sharing, trained, tmp_path, monkeypatch
):
    config = sharing("generators", aigan_workdir=str(trained[0]), target_classes=(3,))
    rows = runs.train(config, tmp_path)
    assert [(row["attack"], row["target_class"]) for row in rows] == [
        ("advgan", 3),
        ("aigan", 3),
    ]
    summary = json.loads((tmp_path / "generators.json").read_text())
    assert len(summary["advgan"]["training_seconds"]) == 1
    assert summary["aigan"]["training_seconds"] == [training_seconds(trained[0])]
    assert {path.name for path in tmp_path.iterdir()} <= {*WRITTEN, "target_models"}
    assert "| AI-GAN | 1 |" in (tmp_path / "generators.md").read_text()
    monkeypatch.setattr(fit, "fit", None)
    assert runs.train(config, tmp_path, resume=True) == rows
    kept = json.loads((tmp_path / "generators.json").read_text())
    assert kept == summary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_classes": ()}, "`target_classes` must be one or more different"),
        ({"target_classes": (3, 3)}, "`target_classes` must be one or more different"),
        ({"target_classes": (0, 12)}, r"`target_class` must be in \[0, 10\), got 12"),
        ({"aigan_workdir": "nowhere"}, "nowhere holds no finished run"),
        ({"epsilon": 0.2}, "epsilon is 0.3 there and 0.2 here"),
    ],
)
def test_comparison_rejects_generators_that_cannot_be_compared(
    sharing, trained, tmp_path, changes, message
):
    given = {"aigan_workdir": str(trained[0])} | changes
    with pytest.raises(ValueError, match=message):
        runs.train(sharing("generators", **given), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_timer_counts_over_interruptions(tmp_path):
    assert training_seconds(tmp_path) is None
    timer = TrainingTimer(tmp_path, 0)
    timer.write(10)
    first = training_seconds(tmp_path)
    timer.write(20)
    # Work after the restored step is lost.
    TrainingTimer(tmp_path, 10).write(30)
    times = json.loads((tmp_path / "training_time.json").read_text())
    assert set(times) == {"10", "30"}
    assert training_seconds(tmp_path) > first > 0
    # The time of checkpoints without a record is unknown.
    TrainingTimer(tmp_path, 15).write(40)
    assert training_seconds(tmp_path) is None
