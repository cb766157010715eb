"""Black-box runs on digits: results, resumption, errors and rejected settings."""

import json
import shutil

import numpy as np
import pytest

import advgan_jax
from advgan_jax import runs
from advgan_jax.configs import advgan_blackbox
from advgan_jax.oracles import Ledger, OracleError
from advgan_jax.reporting import read_metrics
from advgan_jax.runs.workdir import WRITTEN
from advgan_jax.training import fit

SHORT = {
    "generator.num_residual": 0,
    "distilled.model": "fc10",
    "training.batch_size": 32,
    "training.num_rounds": 3,
    "training.steps_per_round": 6,
    "distilled.steps_per_round": 5,
    "distilled.initial_rounds": 2,
    "queries.clean": 60,
    "queries.perturbed_per_round": 20,
    "queries.batch_size": 16,
    "evaluation.monitor_images": 50,
}


@pytest.fixture(scope="module")
def short(get_config, tmp_path_factory):
    """Loads a short configuration; all tests of this module share the black box."""
    targets = str(tmp_path_factory.mktemp("targets"))

    def load(**changes):
        changes = {"target_model_dir": targets, **SHORT, **changes}
        return get_config("advgan_blackbox", **changes)

    return load


@pytest.fixture(scope="module")
def attacked(short, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("blackbox")
    return workdir, runs.train(short(), workdir)


def without_clock(rows):
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def test_writes_everything_into_the_workdir(attacked):
    workdir, rows = attacked
    (row,) = rows
    assert json.loads((workdir / "results.json").read_text())["rows"] == rows
    assert row["experiment"] == "advgan_blackbox"
    assert row["threat_model"] == "black-box-dynamic"
    assert row["queries"] == len(Ledger(workdir / "queries.ledger")) == 100
    assert row["clean_accuracy"] > 0.9
    assert row["linf_max"] <= 0.3 + 1e-6
    assert {path.name for path in workdir.iterdir()} <= {*WRITTEN, "target_models"}
    curve = [line for line in read_metrics(workdir) if "queries" in line]
    assert [(line["step"], line["queries"]) for line in curve] == [
        (16, 60),
        (27, 80),
        (38, 100),
    ]
    (noise,) = [line for line in read_metrics(workdir) if "noise_rate" in line]
    assert (noise["step"], noise["noise_rate"]) == (38, 0.0)
    for line in curve:
        for name in ("black_box_success", "agreement_clean", "agreement_perturbed"):
            assert 0 <= line[f"{name}_rate"] <= 1
    for name in ("adversarial.png", "curves.png", "queries.png"):
        assert (workdir / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_queries_only_images_on_which_the_black_box_was_not_trained(attacked, digits):
    images = Ledger(attacked[0] / "queries.ledger")
    images.rewind(60)
    queried = {image.tobytes() for image in images.made()[0]}
    assert queried <= {image.tobytes() for image in digits.train.images[1000:]}


def test_generator_is_loaded_as_an_attack(attacked, digits, digits_logits_fn):
    attack = advgan_jax.load_generator(attacked[0])
    images = digits.test.images[:5]
    adversarial = attack(digits_logits_fn, images, digits.test.labels[:5])
    assert 0.1 < np.abs(adversarial - images).max() <= 0.3 + 1e-7


@pytest.mark.slow
def test_interrupted_run_resumes_to_the_same_results(
    short, attacked, tmp_path, stop_before
):
    """Interrupted in the training of either network."""
    calls = stop_before(12, 30)
    for step in (12, 30):
        with pytest.raises(runs.Stopped, match=f"Stopped at step {step}, after"):
            runs.train(short(), tmp_path, resume=bool(calls))
    rows = runs.train(short(), tmp_path, resume=True)
    assert without_clock(rows) == without_clock(attacked[1])
    assert read_metrics(tmp_path)[-1] == read_metrics(attacked[0])[-1]
    one, two = (path / "queries.ledger" for path in (tmp_path, attacked[0]))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_run_resumes_after_an_error_of_the_black_box(
    short, attacked, tmp_path, monkeypatch
):
    """It fails in the second round; the resumed run repeats no query."""
    queried, make = [], runs.methods.blackbox.from_logits_fn

    def failing(*args, **options):
        oracle = make(*args, **options)
        fn = oracle._fn

        def answer(images):
            if len(queried) == 76 and answer.fails:
                raise ConnectionError("line is down")
            queried.extend(images)
            return fn(images)

        answer.fails, oracle._fn = not queried, answer
        return oracle

    monkeypatch.setattr(runs.methods.blackbox, "from_logits_fn", failing)
    with pytest.raises(OracleError, match=r"batch 1.*line is down.*76 queries answer"):
        runs.train(short(), tmp_path)
    rows = runs.train(short(), tmp_path, resume=True)
    assert len(queried) == 100 + 10  # ten of them a second time, to measure noise
    # The images of the batch that failed.
    (row,) = rows
    assert (row["queries"], row["wasted"]) == (100, 4)
    (whole,) = without_clock(attacked[1])
    assert without_clock([{**row, "wasted": 0}]) == [whole]


def test_finished_run_resumes_without_queries_or_training(
    short, attacked, tmp_path, monkeypatch
):
    shutil.copytree(attacked[0], tmp_path / "run")
    before = read_metrics(tmp_path / "run")
    monkeypatch.setattr(fit, "fit", None)
    rows = runs.train(short(), tmp_path / "run", resume=True)
    assert without_clock(rows) == without_clock(attacked[1])
    assert read_metrics(tmp_path / "run") == before


def test_static_with_labels_alone(short, tmp_path):
    config = short(distillation="static", answers="labels")
    (row,) = runs.train(config, tmp_path)
    assert row["threat_model"] == "black-box-static"
    assert row["queries"] == 100
    ledger = Ledger(tmp_path / "queries.ledger")
    ledger.rewind(100)
    assert set(np.unique(ledger.made()[1])) == {0, 1}
    assert len([line for line in read_metrics(tmp_path) if "queries" in line]) == 1


@pytest.mark.slow
def test_targeted_within_a_budget(short, tmp_path, caplog):
    config = short(target_class=3, **{"queries.budget": 70})
    (row,) = runs.train(config, tmp_path)
    assert row["success_over"] == "correct-not-target"
    assert row["queries"] == 70
    assert "budget of 70 queries is exhausted" in caplog.text
    attack = advgan_jax.load_generator(tmp_path)
    with pytest.raises(ValueError, match="trained targeted"):
        attack(
            lambda x: x[:, 0, :, 0], np.zeros((1, 8, 8, 1), np.float32), np.array([3])
        )


@pytest.mark.slow
@pytest.mark.usefixtures("attacked")  # trains the target model, whose steps would count
def test_budget_may_be_raised_for_later_rounds(short, tmp_path, stop_before):
    """The first round ends when the budget is spent on clean images."""
    tight = {"queries.budget": 60, "queries.batch_size": 60}
    stop_before(24)
    with pytest.raises(runs.Stopped, match="step 24, after 60 queries"):
        runs.train(short(**tight), tmp_path)
    with pytest.raises(ValueError, match=r"queries.clean is 60 there and 61 here"):
        runs.train(short(**{"queries.clean": 61}), tmp_path, resume=True)
    (row,) = runs.train(short(**{"queries.budget": 70}), tmp_path, resume=True)
    assert row["queries"] == 70
    assert json.loads((tmp_path / "config.json").read_text())["queries"]["budget"] == 70


@pytest.mark.slow
def test_overwrite_discards_the_queries(short, attacked, tmp_path):
    shutil.copytree(attacked[0], tmp_path, dirs_exist_ok=True)
    (row,) = runs.train(short(epsilon=0.1), tmp_path, overwrite=True)
    assert (row["epsilon"], row["queries"]) == (0.1, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation": "statik"}, r"Unknown distillation 'statik'.*dynamic, static"),
        ({"answers": "label"}, "Unknown answers 'label'"),
        (
            {"target_training.num_images": None},
            "must be less than the 1437 training images",
        ),
        ({"target_training.num_images": 1400}, "has 37 images and would ask about 60"),
        (
            {"target_training.num_images": 1432},
            "the attacker must be of all 10 classes, got none",
        ),
        (
            {"target_training.num_images": 10, "target_training.batch_size": 5},
            "the black box must be of all 10 classes",
        ),
        ({"queries.clean": 0}, "`queries.clean` must be"),
        ({"queries.budget": 0}, "`queries.budget` must be"),
        ({"queries.batch_size": 0}, "`queries.batch_size` must be"),
        ({"training.num_rounds": 0}, "`training.num_rounds` must be"),
        ({"distilled.model": "D"}, "Unknown distilled.model 'D'"),
        ({"distilled.model": "C"}, "needs images of at least 16 by 16"),
        ({"training.compute_dtype": "f16"}, "Unknown training.compute_dtype 'f16'"),
        ({"distilled.optimizer": "lamb"}, "Unknown distilled.optimizer 'lamb'"),
        ({"evaluation.monitor_images": 361}, "`monitor_images` must be from 1 to"),
    ],
)
@pytest.mark.filterwarnings("ignore:1 of 10 classes have no training image")
def test_wrong_configuration_writes_nothing(short, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.train(short(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["training", "distilled"])
def test_batches_that_the_devices_do_not_divide(short, tmp_path, monkeypatch, name):
    monkeypatch.setattr(runs.methods.blackbox.parallel, "num_shards", lambda mode: 4)
    config = short(**{f"{name}.batch_size": 30})
    with pytest.raises(
        ValueError, match=f"`{name}.batch_size`.* the 4 devices, got 30"
    ):
        runs.train(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_checks_accept_its_mnist_variant(mnist):
    config = advgan_blackbox.get_config("mnist")
    runs.methods.blackbox.check(config.lock(), mnist)
