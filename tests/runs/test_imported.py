"""Runs against imported models, and evaluations of trained generators."""

import json

import numpy as np
import pytest

import advgan_jax
from advgan_jax import runs
from advgan_jax.configs import evaluate as evaluate_config
from advgan_jax.interop import imported
from advgan_jax.runs.methods import attacks

MODEL = """
import jax.numpy as jnp
import numpy as np
from advgan_jax import interop


def prototypes(weights):
    # The class whose mean image is nearest.
    means = jnp.asarray(np.load(weights))
    return lambda x: x.reshape(len(x), -1) @ means.T - 0.5 * (means**2).sum(-1)


def on_host(weights):
    means = np.load(weights)
    return interop.from_host(
        lambda x: x.reshape(len(x), -1) @ means.T - 0.5 * (means**2).sum(-1), 10
    )
"""


@pytest.fixture
def own(digits, tmp_path, monkeypatch):
    """The settings of a model of the user's own, with 89 % accuracy."""
    train = digits.train
    flat = np.asarray(train.images, np.float32).reshape(len(train), -1)
    flat = flat / 255 if train.images.dtype == np.uint8 else flat
    means = np.stack([flat[train.labels == k].mean(0) for k in range(10)])
    np.save(tmp_path / "means.npy", means)
    (tmp_path / "own_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imported, "_known", {})
    monkeypatch.delitem(__import__("sys").modules, "own_models", raising=False)
    return {
        "target_model": "own_models:prototypes",
        "target_weights": str(tmp_path / "means.npy"),
    }


def test_trains_on_an_imported_model_and_notices_changes(
    own, get_config, tmp_path, monkeypatch
):
    workdir = tmp_path / "run"
    config = get_config(**own, **{"training.num_epochs": 1})
    (row,) = runs.train(config, workdir)
    assert row["target_model"] == "own_models:prototypes"
    assert row["clean_accuracy"] > 0.8
    assert row["threat_model"] == "semi-white-box"
    assert not (workdir / "target_models").exists()  # nothing was trained
    evaluation = evaluate_config.get_config(str(workdir))
    evaluation.evaluation.num_images = config.evaluation.num_images
    (found,) = runs.train(evaluation, tmp_path / "evaluated")
    assert found["threat_model"] == "semi-white-box"
    assert found["attack_success_rate"] == row["attack_success_rate"]

    digests = imported.identify(own["target_model"], own["target_weights"])
    np.save(own["target_weights"], 2 * np.load(own["target_weights"]))
    with pytest.raises(ValueError, match=r"target_model\.weights is \w+ there and"):
        runs.train(config, workdir, resume=True)
    # Predictions reveal changes that no digest does, as in a file without one.
    monkeypatch.setattr(imported, "identify", lambda *_, **__: digests)
    np.save(own["target_weights"], np.load(own["target_weights"])[::-1])
    imported._load.cache_clear()
    with pytest.raises(ValueError, match=r"predicts other classes .* --overwrite"):
        runs.train(config, workdir, resume=True)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("advgan", {"target_model": "own_models:on_host"}, "AdvGAN's training needs"),
        ("aigan", {"target_model": "own_models:on_host"}, "AI-GAN's training needs"),
        (
            "attacks",
            {"target_model": "own_models:on_host", "names": ("transfer", "pgd")},
            "no gradients, and `pgd` needs them",
        ),
        ("attacks", {"names": ("pgd", "transfer")}, "as an imported model needs"),
        ("advgan", {"target_training.defence": "adv"}, "must be 'none', because"),
        ("advgan", {"target_model": "small"}, "`target_weights` belong to a"),
        ("advgan", {"target_weights": "none.npy"}, "none.npy does not exist"),
    ],
)
def test_refuses_before_anything_is_written(
    own, get_config, tmp_path, name, changes, message
):
    config = get_config(name, **{**own, **changes})
    with pytest.raises((ValueError, OSError), match=message):
        runs.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_attacks_without_gradients_accept_every_model(own, get_config, digits):
    names = {"names": ("square", "transfer"), "surrogate.target_model": "small"}
    names["target_model"] = "own_models:on_host"
    attacks.check(get_config("attacks", **{**own, **names}), digits)


@pytest.mark.parametrize("name", ["target_model", "defence"])
def test_a_run_that_trains_its_model_cannot_import_it(get_config, tmp_path, name):
    config = get_config(name, target_model="own_models:prototypes")
    with pytest.raises(ValueError, match="trains its models, and cannot import"):
        runs.train(config, tmp_path / "run")


@pytest.mark.slow
def test_distils_a_model_without_gradients(own, get_config, tmp_path):
    changes = {
        "target_model": "own_models:on_host",
        "generator.num_residual": 0,
        "distilled.model": "fc10",
        "training.num_rounds": 1,
        "training.steps_per_round": 2,
        "distilled.steps_per_round": 2,
        "distilled.initial_rounds": 1,
        "queries.clean": 60,
        "evaluation.monitor_images": 50,
    }
    config = get_config("advgan_blackbox", **{**own, **changes})
    (row,) = runs.train(config, tmp_path / "run")
    assert row["queries"] == 60
    assert row["threat_model"] == "black-box-dynamic"


@pytest.fixture
def evaluation(finished):
    """Loads the evaluation of a finished run's generator."""

    def load(**changes):
        config = evaluate_config.get_config(str(finished[0]))
        config.evaluation.num_images = 100
        config.update_from_flattened_dict(changes)
        return config.lock()

    return load


def test_evaluates_the_generator_of_a_run(evaluation, finished, tmp_path):
    (row,) = runs.train(
        evaluation(**{"evaluation.levels": 256}), tmp_path / "evaluated"
    )
    (own,) = finished[1]
    for name in ("clean_accuracy", "attack_success_rate", "epsilon", "threat_model"):
        assert row[name] == own[name]
    assert row["experiment"] == "evaluate"
    assert row["rounded_linf_max"] <= 0.3 + 1e-6
    written = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert written["rows"] == [row]


def test_on_another_model_a_generator_transfers(evaluation, own, tmp_path):
    (row,) = runs.train(evaluation(**own), tmp_path / "evaluated")
    assert row["threat_model"] == "transfer"
    assert row["target_model"] == "own_models:prototypes"


def test_of_a_saved_generator_the_threat_model_is_unknown(
    evaluation, finished, own, tmp_path
):
    advgan_jax.load_generator(finished[0]).save(tmp_path / "saved")
    config = evaluation(generator_dir=str(tmp_path / "saved"), **own)
    (row,) = runs.train(config, tmp_path / "evaluated")
    assert row["threat_model"] is None


def test_an_evaluation_needs_a_generator_and_its_kind_of_images(
    evaluation, get_config, tmp_path
):
    with pytest.raises(ValueError, match="`generator_dir` must be the workdir"):
        runs.train(get_config("evaluate"), tmp_path / "run")
    images = np.zeros((200, 6, 6, 1), np.uint8)
    labels = np.arange(200) % 10
    splits = {f"x_{part}": images for part in ("train", "test")}
    splits |= {f"y_{part}": labels for part in ("train", "test")}
    np.savez(tmp_path / "small.npz", **splits)
    config = evaluation(
        dataset=f"npz:{tmp_path / 'small.npz'}", **{"evaluation.num_images": 20}
    )
    with pytest.raises(ValueError, match=r"trained for images \(8, 8, 1\)"):
        runs.train(config, tmp_path / "run")
    with pytest.raises(ValueError, match="Unknown variant 'nowhere'"):
        evaluate_config.get_config("nowhere")
