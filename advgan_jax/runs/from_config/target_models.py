"""Target models, defended against attacks or not.

Each function reads `config.target_training`; a defence's `training` replaces the
settings of the same names.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from advgan_jax.attacks import BoundAttack, make_attack, trace_attack
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.runs.from_config import (
    UNDEFENDED,
    plain,
    select,
    without_none,
)
from advgan_jax.training import adversarial, classifier

# The maker of each defence's step, and the name of its weight.
_MAKERS: dict[str, tuple[Callable[..., Any], str]] = {
    "adv": (adversarial.make_adversarial_step, "clean_weight"),
    "ensemble": (adversarial.make_adversarial_step, "clean_weight"),
    "iterative": (adversarial.make_adversarial_step, "clean_weight"),
    "trades": (adversarial.make_trades_step, "divergence_weight"),
}
DEFENCES = tuple(_MAKERS)
_TRAINING = (
    *("num_images", "num_epochs", "batch_size", "optimizer", "learning_rate"),
    *("weight_decay", "label_smoothing", "max_shift", "flip", "compute_dtype"),
)


def describe(config: ConfigDict) -> dict[str, Any]:
    """Return every setting that decides the weights of the target model, and no other.

    The number of devices decides them too, by rounding and by the draws of dropout, but
    all such models are equally good.
    """
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


def title(config: ConfigDict) -> str:
    """Return what rows of `results.json` call the model, such as `madry-iterative`."""
    # A table names each of its models itself.
    if "target_training" not in config or config.target_training.defence == UNDEFENDED:
        return config.target_model
    return f"{config.target_model}-{config.target_training.defence}"


def training_section(config: ConfigDict) -> ConfigDict:
    """Return `target_training` with the settings of the defence in their place."""
    section = config.target_training.copy_and_resolve_references()
    if section.defence in section.defences:
        own = section.defences[section.defence].training
        section.update(without_none(own.to_dict()))
    return section


def source_configs(config: ConfigDict) -> list[ConfigDict]:
    """Return configurations of the models whose adversarial images `ensemble` sees.

    They are undefended and have other seeds. Other defences have none.
    """
    if config.target_training.defence != "ensemble":
        return []
    found = []
    for number, name in enumerate(config.target_training.defences.ensemble.sources, 1):
        source = config.copy_and_resolve_references()
        source.target_training.defence = UNDEFENDED
        source.target_model, source.seed = name, config.seed + number
        found.append(source)
    return found


def make_step(
    config: ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    steps_per_epoch: int,
) -> Callable[..., Any]:
    """Return the training step of the target model.

    Args:
      config: the run's.
      model: the target model.
      optimizer: that of the state.
      steps_per_epoch: the unit of `warmup_epochs`.

    Returns:
      A step on a `ClassifierState`; that of `ensemble` also takes the models of
      `source_configs`.
    """
    section = training_section(config)
    if section.defence == UNDEFENDED:
        return classifier.make_train_step(
            model,
            optimizer,
            label_smoothing=section.label_smoothing,
            max_shift=section.max_shift,
            flip=section.flip,
        )
    settings = section.defences[section.defence]
    make, weight = _MAKERS[section.defence]
    num_steps, epsilon_fn = round(settings.warmup_epochs * steps_per_epoch), None
    if num_steps:
        epsilon_fn = adversarial.warm_up_epsilon(settings.attack.epsilon, num_steps)
    attack: Any = _attack(settings)
    return make(
        model,
        optimizer,
        adversarial.Crafting(attack, settings.predicted_labels, epsilon_fn),
        label_smoothing=section.label_smoothing,
        augmentation=adversarial.Augmentation(section.max_shift, section.flip),
        **{weight: settings[weight]},
    )


def check_defence(config: ConfigDict) -> None:
    """Raise for a defence that cannot be trained.

    Args:
      config: the run's.

    Raises:
      ValueError: for an unknown defence or attack, an attack on which TRADES would have
        little effect, a warm-up as long as the training, or a number out of range.
      TypeError: for an unknown hyper-parameter of the attack, or a wrong type.
    """
    name = config.target_training.defence
    if name == UNDEFENDED:
        return
    if name not in DEFENCES:
        raise unknown_name("defence", name, (UNDEFENDED, *DEFENCES))
    settings = config.target_training.defences[name]
    attack = _attack(settings)
    _check_attack(attack, name)
    _check_warmup(settings.warmup_epochs, training_section(config).num_epochs, attack)
    if name == "ensemble" and not settings.sources:
        raise ValueError("`sources` must name at least one target model, got none.")
    make_step(config, nn.Module(), optax.identity(), 1)


def _attack(settings: ConfigDict) -> BoundAttack:
    hyperparams = without_none(plain(settings.attack))  # the attack has defaults
    return make_attack(hyperparams.pop("kind"), **hyperparams)


def _check_attack(attack: BoundAttack, name: str) -> None:
    """Raise what the attack would raise in the first step, or if it has no effect."""
    if name == "trades":
        _check_diverging(attack)

    def _craft(logits_fn, images, labels, *, key):
        if name == "trades":
            logits_fn = adversarial.divergence_logits_fn(logits_fn, images)
            labels = jnp.zeros_like(labels)
        return attack(logits_fn, images, labels, key=key)

    # The checks of hyper-parameters do not depend on the images' size.
    trace_attack(_craft, (8, 8, 1), num_classes=10)


def _check_diverging(attack: BoundAttack) -> None:
    """Raise for an attack that hardly increases the divergence of TRADES."""
    values = attack.arguments
    if not values.get("random_start", False):
        raise ValueError(
            "The attack of `trades` must begin away from the image, where the "
            f"divergence has no slope, got `{attack.name}` without a random start; use "
            "`pgd` or `apgd` with `random_start=True`."
        )
    if values["num_restarts"] > 1:
        raise ValueError(
            "The attack of `trades` must have one start, as the first one counts as a "
            f"success already, got `num_restarts={values['num_restarts']}`; use more "
            "steps instead."
        )


def _check_warmup(warmup: float, num_epochs: int, attack: BoundAttack) -> None:
    check_at_least("warmup_epochs", warmup, 0)
    if not warmup:
        return
    if warmup >= num_epochs:
        raise ValueError(
            f"`warmup_epochs` must be less than the {num_epochs} epochs of the "
            f"training, or the training never reaches the whole epsilon, got "
            f"{warmup:g}; shorten it, or set it to 0."
        )
    if "epsilon" not in attack.known:
        raise ValueError(
            f"`{attack.name}` has no `epsilon` that could grow; set `warmup_epochs` "
            "to 0."
        )
