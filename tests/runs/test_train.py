"""Whole runs on digits: results, resumption and rejected settings."""

import json
import shutil

import numpy as np
import pytest

import advgan_jax
from advgan_jax import runs
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.configs import advgan as advgan_config
from advgan_jax.configs import aigan as aigan_config
from advgan_jax.evaluation import evaluate
from advgan_jax.reporting import read_metrics
from advgan_jax.runs import workdir
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.workdir import WRITTEN
from advgan_jax.training import advgan, aigan, batches, fit


@pytest.fixture
def sharing(get_config, finished):
    """Loads a configuration with the target model of the finished run."""

    def load(**changes):
        return get_config(
            target_model_dir=str(finished[0] / "target_models"), **changes
        )

    return load


def test_writes_everything_into_the_workdir(finished, get_config):
    workdir, rows = finished
    results = json.loads((workdir / "results.json").read_text())
    assert results["rows"] == rows
    assert set(results) == {"rows", "config", "command", "versions", "device"}
    (row,) = rows
    assert row["attack"] == "advgan"
    assert row["threat_model"] == "semi-white-box"
    assert row["success_over"] == "correct"
    assert row["num_images"] == 100
    assert row["clean_accuracy"] > 0.9
    assert row["linf_max"] <= 0.3 + 1e-6
    config = json.loads((workdir / "config.json").read_text())
    assert config.pop("advgan_jax") == advgan_jax.__version__
    assert config == results["config"]
    assert config["generator"]["widths"] == [4, 8, 8]
    assert [line["step"] for line in read_metrics(workdir)] == [11, 22]
    for name in ("adversarial.png", "curves.png"):
        assert (workdir / "figures" / name).read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").iterdir())
    # `--overwrite` deletes all that a run writes.
    assert {path.name for path in workdir.iterdir()} <= {*WRITTEN, "target_models"}


def test_generator_is_loaded_as_an_attack(finished, digits, digits_logits_fn):
    workdir, _ = finished
    attack = advgan_jax.load_generator(workdir)
    images, labels = digits.test.images[:20], digits.test.labels[:20]
    adversarial = attack(digits_logits_fn, images, labels, epsilon=0.1)
    assert adversarial.shape == images.shape
    # One ulp of a pixel near 1 may separate `x + r - x` from r.
    assert 0 < np.abs(adversarial - images).max() <= 0.1 + 1e-7
    default = attack(digits_logits_fn, images, labels)
    assert 0.1 < np.abs(default - images).max() <= 0.3 + 1e-7
    same = attack(digits_logits_fn, images, labels, epsilon=0.0)
    np.testing.assert_array_equal(same, images)
    assert evaluate(digits_logits_fn, attack, images, labels).num_images == 20


@pytest.mark.slow
def test_second_run_loads_the_target_model(sharing, tmp_path, finished, monkeypatch):
    trained = []
    original_fit = fit.fit

    def counting_fit(*args, hooks, **kwargs):
        trained.append(hooks.description)
        return original_fit(*args, hooks=hooks, **kwargs)

    monkeypatch.setattr(fit, "fit", counting_fit)
    runs.train(sharing(epsilon=0.2), tmp_path)
    assert trained == ["AdvGAN"]


@pytest.mark.slow
def test_interrupted_run_resumes_to_the_same_results(
    sharing, finished, tmp_path, monkeypatch, stop_before
):
    stop_before(5)
    with pytest.raises(runs.Stopped, match="step 5 of AdvGAN"):
        runs.train(sharing(), tmp_path)
    monkeypatch.undo()
    streams = []

    class Noted(batches.Stream):
        def __init__(self, *given):
            super().__init__(*given)
            streams.append(self)

    monkeypatch.setattr(batches, "Stream", Noted)
    # Images that are too large for the devices are streamed; the results are the same.
    small = sharing(max_resident_bytes=1437 * 8 * 8 * 4 - 1)
    (row,) = runs.train(small, tmp_path, resume=True)
    assert len(streams) == 1
    # Only the target model is shared; times and images per second differ.
    (whole,) = finished[1]
    for timed in ("seconds", "images_per_second"):
        row.pop(timed), whole.pop(timed)
    # An unoptimised stream rounds otherwise; `test_same_bits_as_from_the_devices` tests
    # the programs that users get.
    numbers = {name: value for name, value in whole.items() if type(value) is float}
    assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)
    assert row | numbers == whole
    with Checkpoints(tmp_path / "checkpoints") as ours:
        assert ours.steps()[-1] == 22


@pytest.mark.slow
def test_targeted_run_counts_images_not_of_the_class(sharing, tmp_path):
    (row,) = runs.train(
        sharing(target_class=3, **{"evaluation.grid_images": 4}), tmp_path
    )
    assert row["targeted"]
    assert row["success_over"] == "correct-not-target"
    attack = advgan_jax.load_generator(tmp_path)
    images = np.zeros((2, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="trained targeted, got targeted=False"):
        attack(lambda x: x[:, 0, :, 0], images, np.array([3, 3]))
    with pytest.raises(ValueError, match="to reach class 3, got label 5"):
        attack(lambda x: x[:, 0, :, 0], images, np.array([3, 5]), targeted=True)


def test_target_alone(get_config, tmp_path):
    (row,) = runs.train(get_config("target_model"), tmp_path)
    assert row["experiment"] == "target_model"
    assert row["attack"] is row["epsilon"] is None
    assert row["clean_accuracy"] > 0.9


def test_target_model_may_train_on_fewer_images(get_config, tmp_path, monkeypatch):
    seen = []
    original_fit = fit.fit

    def watching_fit(state, run, data, plan, **kwargs):
        seen.append((len(data.labels), plan.num_examples))
        return original_fit(state, run, data, plan, **kwargs)

    monkeypatch.setattr(fit, "fit", watching_fit)
    config = get_config(
        "target_model",
        **{"target_training.num_images": 700, "target_training.num_epochs": 1},
    )
    runs.train(config, tmp_path)
    assert seen == [(700, 700)]
    whole = get_config("target_model")
    assert target_models.describe(config) != target_models.describe(whole)


@pytest.mark.slow
def test_epsilon_zero_does_not_change_the_images(sharing, tmp_path):
    (row,) = runs.train(sharing(epsilon=0.0), tmp_path)
    assert row["linf_max"] == 0.0
    assert row["attack_success_rate"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "digit"}, "digits"),
        ({"target_model": "D"}, r"Unknown target model 'D'.*A, B, C"),
        ({"target_model": "C"}, "needs images of at least 16 by 16"),
        (
            {"loss.adversarial": "margins"},
            r"Unknown loss\.adversarial 'margins'.*margin",
        ),
        ({"loss.gan": "wgan"}, r"Unknown loss\.gan 'wgan'.*bce, hinge, lsgan"),
        ({"loss.gan_weight": -1.0}, r"`loss\.gan_weight` must be a finite number in"),
        ({"target_training.num_images": 2000}, "`num_images` must be from 1 to 1437"),
        (
            {"target_training.optimizer": "lamb"},
            "Unknown target_training.optimizer 'lamb'",
        ),
        ({"epsilon": -0.1}, r"`epsilon` must be a finite number in \[0, 1\], got -0.1"),
        ({"target_class": 10}, r"`target_class` must be in \[0, 10\), got 10"),
        ({"evaluation.num_images": 1000}, "must be from 1 to the 360 test images"),
        ({"evaluation.batch_size": 0}, "`evaluation.batch_size` must be"),
        ({"evaluation.grid_images": 0}, "`evaluation.grid_images` must be"),
        (
            {"training.epochs_per_checkpoint": 0},
            "`training.epochs_per_checkpoint` must be",
        ),
        (
            {"training.compute_dtype": "f16"},
            "Unknown training.compute_dtype.*bfloat16, float32",
        ),
        (
            {"target_training.compute_dtype": "int8"},
            "Unknown target_training.compute_dtype 'int8'",
        ),
        ({"training.steps_per_call": -1}, "`training.steps_per_call` must be"),
        ({"generator.widths": (4, 8)}, "must be a tuple of exactly 3 values"),
        ({"training.batch_size": 5000}, "`batch_size` must be from 1 to the 1437"),
        ({"max_resident_bytes": -1}, "`max_resident_bytes` must be"),
        ({"parallel": "tpu"}, "Unknown parallel 'tpu'"),
        ({"distillation": "statik"}, "Unknown distillation 'statik'"),
        ({"method": "gan"}, "Unknown method 'gan'"),
        ({"seed": 2**32}, "`seed` must be an integer from 0 to 4294967295"),
        ({"target_training.learning_rate": -1.0}, r"learning_rate` .*in \(0, 10\]"),
        ({"target_training.label_smoothing": 2.0}, r"smoothing` .*in \[0, 1\), got 2"),
        ({"target_training.weight_decay": -1.0}, "weight_decay` must be"),
        (
            {"target_training.max_shift": 8},
            "`max_shift` must be from 0 to 7 for images",
        ),
        ({"generator.widths": (4, 0, 4)}, r"`generator\.widths` must be"),
        ({"target_training.num_images": 9}, "one of each class, got 10 classes"),
    ],
)
def test_wrong_configuration_writes_nothing(get_config, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.train(get_config(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


class TestWorkdirOfAnotherRun:
    def test_other_configuration(self, get_config, finished):
        with pytest.raises(ValueError, match=r"epsilon is 0.3 there and 0.1 here"):
            runs.train(get_config(epsilon=0.1), finished[0], resume=True)

    def test_same_configuration_without_resume(self, get_config, finished):
        with pytest.raises(ValueError, match="holds a run already; continue"):
            runs.train(get_config(), finished[0])

    def test_resumes_in_another_parallel_mode(self, get_config, finished, tmp_path):
        shutil.copytree(finished[0], tmp_path / "run")
        before = json.loads((tmp_path / "run" / "results.json").read_text("utf8"))
        (row,) = runs.train(get_config(parallel="jit"), tmp_path / "run", resume=True)
        (old,) = before["rows"]
        assert row["attack_success_rate"] == old["attack_success_rate"]

    def test_tables_share_no_folder_with_a_run(self, get_config, finished):
        with pytest.raises(ValueError, match="holds a run with another configuration"):
            runs.train(get_config("reproduce"), finished[0], resume=True)

    def test_settings_without_effect_on_checkpoints_may_change(
        self, sharing, finished, tmp_path
    ):
        shutil.copytree(finished[0] / "checkpoints", tmp_path / "checkpoints")
        shutil.copy(finished[0] / "config.json", tmp_path / "config.json")
        changed = sharing(
            **{"evaluation.num_images": 50, "training.epochs_per_checkpoint": 7}
        )
        (row,) = runs.train(changed, tmp_path, resume=True)
        assert row["num_images"] == 50

    def test_without_checkpoints_the_settings_must_match(
        self, get_config, finished, tmp_path
    ):
        for name in ("config.json", "results.json", "metrics.jsonl"):
            shutil.copy(finished[0] / name, tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        for changes in ({"dataset": "cats"}, {"epsilon": 0.1}, {"loss.gan_weight": 2}):
            config = get_config(**changes)
            with pytest.raises(ValueError, match=f"{min(changes)} is .* there"):
                workdir.claim(tmp_path, config, None, resume=True, overwrite=False)
        after = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert after == before

    def test_nothing_to_resume(self, get_config, tmp_path):
        with pytest.raises(ValueError, match="holds no run to resume"):
            runs.train(get_config(), tmp_path, resume=True)

    @pytest.mark.slow
    def test_overwrite_keeps_the_target(self, get_config, finished, tmp_path):
        shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
        kept = sorted((tmp_path / "target_models").rglob("*"))
        config = get_config(epsilon=0.1, **{"training.num_epochs": 1})
        (row,) = runs.train(config, tmp_path, overwrite=True)
        assert row["epsilon"] == 0.1
        assert sorted((tmp_path / "target_models").rglob("*")) == kept

    def test_resume_and_overwrite_exclude_each_other(self, get_config, finished):
        before = sorted(finished[0].rglob("*"))
        with pytest.raises(ValueError, match="give one of them"):
            runs.train(get_config(), finished[0], resume=True, overwrite=True)
        assert sorted(finished[0].rglob("*")) == before

    def test_checkpoints_without_their_configuration(self, sharing, finished, tmp_path):
        shutil.copytree(finished[0] / "checkpoints", tmp_path / "checkpoints")
        with pytest.raises(ValueError, match="has checkpoints but no config"):
            runs.train(sharing(), tmp_path)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("name", ["results.json", "figures/a.png", "tables/b.csv"])
    def test_files_of_somebody_else_are_kept(
        self, get_config, tmp_path, name, overwrite
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        (tmp_path / "notes.txt").touch()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=rf"has {name.split('/')[0]} but no conf"):
            runs.train(get_config(), tmp_path, overwrite=overwrite)
        assert sorted(tmp_path.rglob("*")) == before
        assert path.read_text() == "mine"

    @pytest.mark.parametrize(
        "text",
        [
            *('{"model_type": "bert"}', "[]", "", "{}", '{"m'),
            '{"method": "dreambooth", "dataset": "cats", "seed": 0}',
            '{"method": "advgan", "dataset": "digits", "seed": 0}',
        ],
    )
    @pytest.mark.parametrize("flag", [None, "resume", "overwrite"])
    def test_a_configuration_of_something_else(self, get_config, tmp_path, text, flag):
        (tmp_path / "config.json").write_text(text)
        (tmp_path / "figures").mkdir()
        with pytest.raises(
            ValueError, match=r"config\.json must be the conf.*another --"
        ) as raised:
            runs.train(get_config(), tmp_path, **({flag: True} if flag else {}))
        assert "--overwrite" not in str(raised.value)
        assert (tmp_path / "config.json").read_text() == text
        assert (tmp_path / "figures").is_dir()

    def test_overwrite_deletes_links_and_not_what_they_point_to(
        self, get_config, finished, tmp_path
    ):
        run, theirs = tmp_path / "run", tmp_path / "theirs"
        run.mkdir()
        theirs.mkdir()
        shutil.copy(finished[0] / "config.json", run)
        (theirs / "a.png").touch()
        (run / "figures").symlink_to(theirs)
        workdir.claim(run, get_config(), None, resume=False, overwrite=True)
        assert (theirs / "a.png").exists()
        assert not (run / "figures").exists()

    def test_damaged_checkpoint_falls_back_to_the_one_before(
        self, get_config, finished, tmp_path, caplog
    ):
        shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
        for path in (tmp_path / "checkpoints" / "22").rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:10])
        (row,) = runs.train(get_config(), tmp_path, resume=True)
        assert "trying the one before" in caplog.text
        assert row["robust_accuracy"] == finished[1][0]["robust_accuracy"]


@pytest.mark.slow
def test_other_data_under_the_same_name_are_noticed(get_config, tmp_path, digits):
    """Neither the target model nor the generator is that of the old data."""
    path, (train, test) = tmp_path / "mine.npz", (digits.train, digits.test)

    def save(offset):
        labels = ((split.labels + offset) % 10 for split in (train, test))
        arrays = dict(zip(("y_train", "y_test"), labels, strict=True))
        np.savez(path, x_train=train.images, x_test=test.images, **arrays)

    def run(name, **options):
        changes = {"dataset": f"npz:{path}", "training.num_epochs": 1}
        changes["target_model_dir"] = str(tmp_path / "models")
        return runs.train(get_config(**changes), tmp_path / name, **options)[0]

    save(0)
    before = run("one")
    save(1)
    after = run("two")
    # The labels moved, the images did not: the old model would be wrong everywhere.
    assert min(before["clean_accuracy"], after["clean_accuracy"]) > 0.9
    assert len(list((tmp_path / "models").iterdir())) == 2
    with pytest.raises(ValueError, match=r"data is \w+ there and \w+ here"):
        run("one", resume=True)
    save(0)
    assert run("one", resume=True)["robust_accuracy"] == before["robust_accuracy"]
    assert len(list((tmp_path / "models").iterdir())) == 2


def test_finished_run_resumes_without_training(get_config, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    before = read_metrics(tmp_path)
    runs.train(get_config(), tmp_path, resume=True)
    assert read_metrics(tmp_path) == before


def test_objectives_have_the_weights_of_the_configurations():
    config = advgan_config.get_config("mnist")
    assert gans.advgan_objective(config, 10) == advgan.AdvGANObjective(0.3)
    config = aigan_config.get_config("mnist")
    assert gans.aigan_objective(config, 10) == aigan.AIGANObjective(0.3, 10)
