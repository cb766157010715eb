"""Target models that are trained against attacks: from configuration to steps."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from advgan_jax.attacks import BoundAttack, make_attack
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.runs.from_config.parts import UNDEFENDED, given, plain, trace_attack
from advgan_jax.training import adversarial, classifier

DEFENCES = ("adv", "ensemble", "iterative", "trades")


def chosen_defence(section: ConfigDict) -> str:
    """The defence that a target model is trained with.

    Args:
      section: `config.target_training`, also as a `config.json` has it, which does not tell of
        defences where there is none.

    Returns:
      Its name, or `UNDEFENDED`.
    """
    return section.get("defence", UNDEFENDED)


def target_model_title(config: ConfigDict) -> str:
    """What rows of `results.json` call a target model.

    Args:
      config: the run's; reads `target_model` and `target`, which some have not.

    Returns:
      For example `madry`, or `madry-iterative` if it is defended.
    """
    defence = chosen_defence(config.get("target_training", {}))
    return "-".join([config.target_model] + [defence] * (defence != UNDEFENDED))


def target_model_training(config: ConfigDict) -> ConfigDict:
    """How the target model is trained, the defence's own numbers in their place.

    Args:
      config: the run's; reads `target`.

    Returns:
      A section like `config.target_training`.
    """
    section = config.target_training.copy_and_resolve_references()
    if chosen_defence(section) != UNDEFENDED:
        section.update(given(section.defences[section.defence].training.to_dict()))
    return section


def check_defence(config: ConfigDict) -> None:
    """Refuses a defence that cannot be trained.

    Args:
      config: the run's; reads `target`.

    Raises:
      ValueError: for an unknown defence or attack, an attack that cannot be compiled
        with a training step or that TRADES would do little with, a warm-up as long as
        the training, or a number out of range.
      TypeError: for an unknown hyper-parameter of the attack, or one of a wrong type.
    """
    name = chosen_defence(config.target_training)
    if name == UNDEFENDED:
        return
    if name not in DEFENCES:
        raise unknown_name("defence", name, (UNDEFENDED, *DEFENCES))
    settings = config.target_training.defences[name]
    attack = _attack(settings)
    _check_attack(attack, name)
    _check_warmup(
        settings.warmup_epochs, target_model_training(config).num_epochs, attack
    )
    if name == "ensemble" and not settings.sources:
        raise ValueError("`sources` must name at least one target model, got none.")
    make_target_model_step(config, nn.Module(), optax.identity(), 1)


def _check_attack(attack: BoundAttack, name: str) -> None:
    """Refuses an attack that a training step would refuse, or that does nothing."""
    if name == "trades":
        _check_diverging(attack)

    def craft(logits_fn, images, labels, *, key):
        if name == "trades":
            logits_fn = adversarial.divergence_logits_fn(logits_fn, images)
            labels = jnp.zeros_like(labels)
        return attack(logits_fn, images, labels, key=key)

    # The values of hyper-parameters do not depend on the images' size.
    trace_attack(craft, (8, 8, 1), num_classes=10)


def _check_diverging(attack: BoundAttack) -> None:
    """Reject attacks that hardly ascend the divergence."""
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
    """Refuses a warm-up that the training does not outlast."""
    check_at_least("warmup_epochs", warmup, 0)
    if not warmup:
        return
    if warmup >= num_epochs:
        raise ValueError(
            f"`warmup_epochs` must be less than the {num_epochs} epochs of the "
            f"training, which else never meets the whole epsilon, got {warmup:g}; "
            "shorten it, or set it to 0."
        )
    if "epsilon" not in attack.known:
        raise ValueError(
            f"`{attack.name}` has no `epsilon` that could grow; set `warmup_epochs` "
            "to 0."
        )


def make_target_model_step(
    config: ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    steps_per_epoch: int,
) -> Callable:
    """The training step of a target model, defended or not.

    Args:
      config: the run's; reads `target`.
      model: the target model.
      optimizer: that of the state.
      steps_per_epoch: in which the warm-up is measured.

    Returns:
      A step on a `ClassifierState`; that of `ensemble` takes the models of
      `source_configs` too.
    """
    section = target_model_training(config)
    if chosen_defence(section) == UNDEFENDED:
        return classifier.make_train_step(
            model,
            optimizer,
            label_smoothing=section.label_smoothing,
            max_shift=section.max_shift,
            flip=section.flip,
        )
    settings = section.defences[section.defence]
    shared = {
        "label_smoothing": section.label_smoothing,
        "augmentation": adversarial.Augmentation(section.max_shift, section.flip),
    }
    make, weight = {
        "adv": (adversarial.make_adversarial_step, "clean_weight"),
        "ensemble": (adversarial.make_adversarial_step, "clean_weight"),
        "iterative": (adversarial.make_adversarial_step, "clean_weight"),
        "trades": (adversarial.make_trades_step, "divergence_weight"),
    }[section.defence]
    crafting = _crafting(settings, steps_per_epoch)
    return make(model, optimizer, crafting, **{weight: settings[weight]}, **shared)


def source_configs(config: ConfigDict) -> list[ConfigDict]:
    """The static nets whose adversarial images `ensemble` learns from.

    Args:
      config: the run's; reads `target`.

    Returns:
      A configuration for each, undefended and with a seed of its own; empty for other
      defences.
    """
    if chosen_defence(config.target_training) != "ensemble":
        return []
    found = []
    for number, name in enumerate(config.target_training.defences.ensemble.sources, 1):
        source = config.copy_and_resolve_references()
        source.target_training.defence = UNDEFENDED
        source.target_model, source.seed = name, config.seed + number
        found.append(source)
    return found


def _attack(settings: ConfigDict) -> BoundAttack:
    hyperparams = given(plain(settings.attack))  # the attack chooses the others
    return make_attack(hyperparams.pop("kind"), **hyperparams)


def _crafting(settings: ConfigDict, steps_per_epoch: int) -> adversarial.Crafting:
    attack: Any = _attack(settings)
    num_steps = round(settings.warmup_epochs * steps_per_epoch)
    epsilon_fn = None
    if num_steps:
        epsilon_fn = adversarial.warm_up_epsilon(settings.attack.epsilon, num_steps)
    return adversarial.Crafting(attack, settings.predicted_labels, epsilon_fn)
