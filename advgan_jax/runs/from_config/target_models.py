"""Target models, with or without a defence, from `config.target_training`.

The section `training` of a defence replaces settings of the same names.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from advgan_jax.attacks import BoundAttack, make_attack, trace_attack
from advgan_jax.interop import imported
from advgan_jax.runs.from_config import later_seed, plain, select, without_none
from advgan_jax.settings import UNDEFENDED
from advgan_jax.training import adversarial, classifier

_TRAINING = (
    *("num_images", "num_epochs", "batch_size", "optimizer", "learning_rate"),
    *("weight_decay", "label_smoothing", "max_shift", "flip", "compute_dtype"),
)


def describe(config: ConfigDict) -> dict[str, Any]:
    """Return every setting that affects the weights of the target model, and no other.

    The number of devices is not among them: it changes only rounding and random draws.
    An imported model is described by its name and by digests of its files.
    """
    if imported.is_imported(name := config.target_model):
        identity = imported.identify(name, config.target_weights)
        return {"kind": "target_model", "target_model": name, **identity}
    section = training_section(config)
    description = {
        "kind": "target_model",
        **select(config, "dataset", "target_model", "seed"),
        "training": select(section, *_TRAINING),
    }
    if section.defence != UNDEFENDED:
        settings = plain(section.defences[section.defence])
        del settings["training"]  # part of the section by now
        if "sources" in settings:
            settings["sources"] = [describe(s) for s in source_configs(config)]
        description["defence"] = {"name": section.defence, **settings}
    return description


def training_section(config: ConfigDict) -> ConfigDict:
    """Return `target_training` with the settings that the defence replaces."""
    section = config.target_training.copy_and_resolve_references()
    if section.defence in section.defences:
        own = section.defences[section.defence].training
        section.update(without_none(own.to_dict()))
    return section


def source_configs(config: ConfigDict) -> list[ConfigDict]:
    """Return the configurations, with other seeds, of the models of an `ensemble`."""
    if config.target_training.defence != "ensemble":
        return []
    found = []
    for number, name in enumerate(config.target_training.defences.ensemble.sources, 1):
        source = config.copy_and_resolve_references()
        source.target_training.defence = UNDEFENDED
        source.target_model, source.seed = name, later_seed(config, number)
        found.append(source)
    return found


def make_step(
    config: ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    steps_per_epoch: int,
) -> Callable[..., Any]:
    """Return the training step; that of `ensemble` also takes its source models."""
    section = training_section(config)
    if section.defence == UNDEFENDED:
        settings = select(section, "label_smoothing", "max_shift", "flip")
        return classifier.make_train_step(model, optimizer, **settings)
    settings = section.defences[section.defence]
    num_steps, epsilon_fn = round(settings.warmup_epochs * steps_per_epoch), None
    if num_steps:
        epsilon_fn = adversarial.warm_up_epsilon(settings.attack.epsilon, num_steps)
    attack: Any = _attack(settings)
    make, weight = adversarial.make_adversarial_step, "clean_weight"
    if section.defence == "trades":
        make, weight = adversarial.make_trades_step, "divergence_weight"
    return make(
        model,
        optimizer,
        adversarial.Crafting(attack, settings.predicted_labels, epsilon_fn),
        label_smoothing=section.label_smoothing,
        augmentation=adversarial.Augmentation(section.max_shift, section.flip),
        **{weight: settings[weight]},
    )


def check_defence(config: ConfigDict) -> None:
    """Raise `ValueError` or `TypeError` for a defence that cannot be trained."""
    name = config.target_training.defence
    if name == UNDEFENDED:
        return
    settings = config.target_training.defences[name]
    attack, warmup = _attack(settings), settings.warmup_epochs
    _check_attack(attack, trades=name == "trades")
    num_epochs = training_section(config).num_epochs
    if warmup and warmup >= num_epochs:
        raise ValueError(
            f"`warmup_epochs` must be less than the {num_epochs} epochs of the "
            f"training, or the training never reaches the whole epsilon, got "
            f"{warmup:g}; shorten it, or set it to 0."
        )
    if warmup and "epsilon" not in attack.known:
        raise ValueError(
            f"`{attack.name}` has no `epsilon` that could grow; set `warmup_epochs` "
            "to 0."
        )
    make_step(config, nn.Module(), optax.identity(), 1)


def _attack(settings: ConfigDict) -> BoundAttack:
    hyperparams = without_none(plain(settings.attack))  # the attack has defaults
    return make_attack(hyperparams.pop("kind"), **hyperparams)


def _check_attack(attack: BoundAttack, *, trades: bool) -> None:
    """Raise for an attack that would raise in the first step or have no effect."""
    values = attack.arguments
    if trades and not values.get("random_start", False):
        raise ValueError(
            "The attack of `trades` needs a random start, because the gradient of the "
            f"divergence is zero at the image, got `{attack.name}` without one; use "
            "`pgd` or `apgd` with `random_start=True`."
        )
    if trades and values["num_restarts"] > 1:
        raise ValueError(
            "The attack of `trades` must not use restarts (got "
            f"`num_restarts={values['num_restarts']}`): every result counts as a "
            "success, so the first would win. Use more steps."
        )

    def _craft(logits_fn, images, labels, *, key):
        if trades:
            logits_fn = adversarial.divergence_logits_fn(logits_fn, images)
            labels = jnp.zeros_like(labels)
        return attack(logits_fn, images, labels, key=key)

    # The checks of hyper-parameters do not depend on the images' size.
    trace_attack(_craft, (8, 8, 1), num_classes=10)
