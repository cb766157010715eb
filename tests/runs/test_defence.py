"""Defended classifiers: trained once, found by attack runs, rejected settings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models, runs
from advgan_jax.attacks import make_attack
from advgan_jax.configs import defence as defence_config
from advgan_jax.configs import reproduce as tables_config
from advgan_jax.data import to_float
from advgan_jax.evaluation import evaluate
from advgan_jax.reporting import store
from advgan_jax.runs import from_config
from advgan_jax.runs.artifacts import GeneratorArtifacts
from advgan_jax.runs.from_config import target_models
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers.rows import TargetModel
from advgan_jax.runs.run import Run
from advgan_jax.settings import DEFENCES
from advgan_jax.training import adversarial, classifier, fit
from advgan_jax.types import Batch

TINY = {
    "target_model": "fc100_100_10",
    "target_training.defences.ensemble.sources": ("fc10", "fc100_100_10"),
    **{
        f"target_training.defences.{name}.{setting}": value
        for name in ("adv", "ensemble", "iterative", "trades")
        for setting, value in {"training.num_epochs": 2, "warmup_epochs": 0.0}.items()
    },
}


def trades(**attack):
    return {
        "target_training.defence": "trades",
        "target_training.defences.trades.attack": attack,
    }


@pytest.fixture
def load(get_config):
    def load(name="defence", **changes):
        return get_config(name, **(TINY | changes))

    return load


def name_of(config):
    return store.fingerprint(target_models.describe(config))


def test_each_defence_is_another_model(load):
    names = {name_of(load(**{"target_training.defence": name})) for name in DEFENCES}
    assert len(names | {name_of(load(**{"target_training.defence": "none"}))}) == 5


def test_only_settings_that_a_defence_reads_change_the_model(load):
    ours = name_of(load())
    same = {
        "target_training.defences.adv.clean_weight": 0.3,
        "target_training.num_epochs": 17,  # `iterative` replaces it
        "target_training.epochs_per_checkpoint": 2,
    }
    assert name_of(load(**same)) == ours
    for change in (
        {"target_training.defences.iterative.attack.num_steps": 3},
        {"target_training.defences.iterative.attack.step_size": 0.01},
        {"target_training.defences.iterative.training.num_epochs": 3},
        {"target_training.learning_rate": 0.1},
    ):
        assert name_of(load(**change)) != ours
    ensemble = {"target_training.defence": "ensemble"}
    # `target_training` also specifies how its sources are trained.
    assert name_of(load(**ensemble)) != name_of(
        load(**ensemble, **{"target_training.num_epochs": 17})
    )


def test_a_defence_may_have_a_learning_rate_of_its_own(load):
    own = {"target_training.defences.iterative.training.learning_rate": 0.1}
    assert target_models.training_section(load()).learning_rate != 0.1
    assert target_models.training_section(load(**own)).learning_rate == 0.1
    assert name_of(load(**own)) != name_of(load())
    # The general learning rate then has no effect.
    other = own | {"target_training.learning_rate": 0.2}
    assert name_of(load(**other)) == name_of(load(**own))


def test_the_challenge_finds_the_model_of_the_full_table(digits, tmp_path):
    """The settings are those of the docstring of experiments/challenge.py."""
    config = defence_config.get_config("mnist")
    settings = config.target_training.defences.iterative
    settings.training.update(
        {"learning_rate": 1e-4, "num_epochs": 84, "batch_size": 50}
    )
    settings.attack.update({"num_steps": 40, "step_size": 0.01})
    run = Run(tables_config.get_config("full"), tmp_path, digits)
    made = GeneratorArtifacts(run).describe(TargetModel("madry", "iterative"))
    assert target_models.describe(config) == made


def test_defences_share_no_settings(load):
    config = load(**{"target_training.defences.adv.attack.epsilon": 0.11})
    assert config.target_training.defences.ensemble.attack.epsilon == 0.3


@pytest.fixture
def titles(monkeypatch):
    """The titles of all trainings, in order."""
    trained, original_fit = [], fit.fit

    def counting_fit(*args, hooks, **kwargs):
        trained.append(hooks.description)
        return original_fit(*args, hooks=hooks, **kwargs)

    monkeypatch.setattr(fit, "fit", counting_fit)
    return trained


@pytest.mark.slow
def test_ensemble_trains_its_sources_once_and_attack_runs_find_it(
    load, titles, digits, tmp_path
):
    changes = {
        "target_training.defence": "ensemble",
        "target_model_dir": str(tmp_path / "targets"),
    }
    rows = runs.train(load(**changes), tmp_path / "run")
    assert titles == [
        "target model fc10",
        "target model fc100_100_10",
        "target model fc100_100_10",
    ]
    assert len(list((tmp_path / "targets").iterdir())) == 3
    assert [row["attack"] for row in rows] == ["fgsm", "pgd"]
    assert rows[1]["epsilon"] == 0.3
    attacker = load("advgan", **changes)
    trained_logits_fn(Run(attacker, tmp_path / "other", digits))
    assert len(titles) == 3


@pytest.mark.parametrize(
    "defence",
    [
        "adv",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("iterative", "trades")),
    ],
)
def test_defence_makes_the_model_more_robust(load, digits, tmp_path, defence):
    """A few epochs suffice for a small bound."""
    training = {
        f"target_training.defences.{defence}.training.num_epochs": 12,
        f"target_training.defences.{defence}.attack.epsilon": 0.1,
        "target_training.defence": defence,
        "target_training.learning_rate": 0.01,
        "epsilon": 0.1,
        "names": ("fgsm",),
    }
    (row,) = runs.train(load(**training), tmp_path / "defended")
    plain = load(
        "advgan",
        **{"target_training.num_epochs": 12, "target_training.learning_rate": 0.01},
    )
    bare = trained_logits_fn(Run(plain, tmp_path / "bare", digits))
    bound = from_config.bound_attack(load(**training), "fgsm")
    images, labels = digits.test.images[:100], digits.test.labels[:100]
    found = evaluate(
        bare, lambda f, x, y, **_: bound(f, x, y, epsilon=0.1), images, labels
    )
    assert row["target_model"].endswith(f"-{defence}")
    assert row["clean_accuracy"] > 0.85
    assert row["robust_accuracy"] > found.robust_accuracy + 0.1


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (3, 0.5), (6, 1.0), (9, 1.0)])
def test_warmup_is_counted_in_epochs(load, digits, step, share):
    """After a share of the two epochs, the attack uses that share of epsilon."""
    model, sgd = models.make_classifier("fc10", 10), optax.sgd(1.0)
    state = classifier.init_state(model, sgd, jax.random.key(0), (8, 8, 1))
    state = state.replace(step=jnp.asarray(step, jnp.int32))
    batch = Batch(jnp.asarray(to_float(digits.test.images[:8])), jnp.arange(8))
    names = {"training.num_epochs": 3, "warmup_epochs": 2.0}
    changes = {
        f"target_training.defences.adv.{name}": value for name, value in names.items()
    }
    config = load(**changes, **{"target_training.defence": "adv"})
    target_models.check_defence(config)

    def after(step_fn):
        return step_fn(state, batch)[0].model.params["Dense_0"]["kernel"]

    fgsm = make_attack("fgsm", epsilon=0.3 * share)
    wanted = adversarial.make_adversarial_step(
        model, sgd, adversarial.Crafting(fgsm, predicted_labels=True), clean_weight=0.5
    )
    found = target_models.make_step(config, model, sgd, 3)
    np.testing.assert_allclose(after(found), after(wanted), atol=1e-6)  # rounding
    other = adversarial.Crafting(make_attack("fgsm", epsilon=0.3 * share + 0.1), True)
    other = adversarial.make_adversarial_step(model, sgd, other, clean_weight=0.5)
    assert not np.allclose(after(found), after(other), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"target_training.defence": "none"},
            ValueError,
            "must name a defence, got 'none'",
        ),
        (
            {"target_training.defence": "ad"},
            ValueError,
            "Unknown target_training.defence 'ad'",
        ),
        (
            {"target_training.defences.iterative.attack.num_step": 3},
            ValueError,
            "Unknown setting 'num_step'. Did you mean 'num_steps'",
        ),
        (
            {
                "target_training.defence": "ensemble",
                "target_training.defences.ensemble.sources": (),
            },
            ValueError,
            "sources` must be a tuple of at least 1 values, each one of",
        ),
        (
            {"target_training.defences.iterative.clean_weight": 1.5},
            ValueError,
            r"clean_weight` must be a finite number in \[0, 1\]",
        ),
        ({"names": ()}, ValueError, "`names` must be one or more different values"),
        (
            {"target_training.defences.iterative.attack.num_steps": -1},
            ValueError,
            "num_steps` must be",
        ),
        (
            {
                "target_training.defence": "adv",
                "target_training.defences.adv.attack": {
                    "kind": "fgsm",
                    "epsilon": 0.3,
                    "loss": "margins",
                },
            },
            ValueError,
            r"attack\.loss 'margins'. Did you mean 'margin'",
        ),
        (
            {"target_training.defences.iterative.warmup_epochs": 2.0},
            ValueError,
            "`warmup_epochs` must be less than the 2 epochs",
        ),
        (
            trades(kind="bim"),
            ValueError,
            "needs a random start.*got `bim` without one",
        ),
        (
            trades(kind="pgd", random_start=False),
            ValueError,
            "needs a random start.*got `pgd`",
        ),
        (
            trades(kind="pgd", num_restarts=2),
            ValueError,
            "must not use restarts .got `num_restarts=2`",
        ),
        (
            trades(kind="apgd", epsilon=0.3, loss="dlr"),
            ValueError,
            "at least 3 classes, got 2",
        ),
    ],
)
def test_rejects_settings_before_anything_is_written(
    load, tmp_path, changes, error, message
):
    config = load().copy_and_resolve_references()
    with config.unlocked():
        for name, value in changes.items():
            if isinstance(value, dict):  # replaces the old section
                *path, last = name.split(".")
                section = functools.reduce(lambda part, key: part[key], path, config)
                del section[last]
                section[last] = value
            else:
                config.update_from_flattened_dict({name: value})
    with pytest.raises(error, match=message):
        runs.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
