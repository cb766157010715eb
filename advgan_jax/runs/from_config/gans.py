"""Generators, discriminators and their objectives, of AdvGAN and of AI-GAN."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from advgan_jax import losses, models
from advgan_jax.attacks import (
    BoundAttack,
    conditional_generator_attack,
    make_attack,
)
from advgan_jax.checks import check_at_least
from advgan_jax.training import advgan, aigan
from advgan_jax.training.gan import Networks, make_generator_fn
from advgan_jax.types import Attack


def check_widths(section: ConfigDict) -> None:
    """Raises `ValueError` unless a generator's `widths` are three."""
    if len(section.widths) != 3:
        raise ValueError(
            "`generator.widths` must be three numbers of filters, at full, half and "
            f"quarter size, got {tuple(section.widths)}."
        )


def adam(section: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """The optimiser of a generator or discriminator.

    Args:
      section: `learning_rate`, which falls to zero along a cosine.
      num_steps: of the whole run.

    Returns:
      Adam, whose first moment decays with 0.5, as in other image-to-image GANs.
    """
    rate = optax.cosine_decay_schedule(section.learning_rate, max(num_steps, 1))
    return optax.adam(rate, b1=0.5)


def objective_fields(config: ConfigDict) -> dict[str, Any]:
    """What the objectives of AdvGAN and AI-GAN share, checked.

    Args:
      config: the run's; reads `epsilon` and `loss`.

    Returns:
      Fields by name.

    Raises:
      ValueError: if a bound is negative or a GAN loss unknown.
    """
    fields = {
        "epsilon": config.epsilon,
        "adversarial_loss": config.loss.adversarial,
        "confidence": config.loss.confidence,
        "gan_loss": config.loss.gan,
        "gan_weight": config.loss.gan_weight,
        "hinge_weight": config.loss.hinge_weight,
        "hinge_bound": config.loss.hinge_bound,
    }
    losses.gan_loss(fields["gan_loss"])
    for name in ("epsilon", "confidence", "gan_weight", "hinge_weight", "hinge_bound"):
        check_at_least(name, fields[name], 0)
    return fields


def advgan_networks(config: ConfigDict, num_steps: int) -> Networks:
    """Generator, discriminator and their optimisers.

    Args:
      config: the run's; reads `epsilon`, `generator` and `discriminator`.
      num_steps: of the whole run; both learning rates fall to zero along a cosine.

    Returns:
      What `training.advgan` trains.

    Raises:
      ValueError: if there are not three widths.
    """
    check_widths(config.generator)
    return Networks(
        models.Generator(
            epsilon=config.epsilon,
            widths=tuple(config.generator.widths),
            num_residual=config.generator.num_residual,
        ),
        models.Discriminator(widths=tuple(config.discriminator.widths)),
        adam(config.generator, num_steps),
        adam(config.discriminator, num_steps),
    )


def advgan_objective(config: ConfigDict, num_classes: int) -> advgan.AdvGANObjective:
    """AdvGAN's losses, weights and bounds, checked.

    Args:
      config: the run's; reads `epsilon`, `target_class` and `loss`.
      num_classes: K.

    Returns:
      What `training.advgan` minimises.

    Raises:
      ValueError: if a bound is negative, a loss unknown, or there is no such class.
    """
    target = config.target_class
    if target is not None and not 0 <= target < num_classes:
        raise ValueError(
            f"`target_class` must be in [0, {num_classes}), got {target}; "
            "leave it out for an untargeted attack."
        )
    objective = advgan.AdvGANObjective(target_class=target, **objective_fields(config))
    # Refuses what is unknown or does not fit together.
    advgan.make_adversarial_loss(objective)
    return objective


def aigan_networks(config: ConfigDict, num_classes: int, num_steps: int) -> Networks:
    """Conditional generator, discriminator and their optimisers.

    Args:
      config: the run's; reads `epsilon`, `generator` and `discriminator`.
      num_classes: K.
      num_steps: of both stages together.

    Returns:
      What `training.aigan` trains.

    Raises:
      ValueError: if there are not three widths, or neither one nor two heads.
    """
    check_widths(config.generator)
    widths, heads = tuple(config.discriminator.widths), config.discriminator.num_heads
    if heads not in (1, 2):
        raise ValueError(
            "`discriminator.num_heads` must be 1 (source) or 2 (source and class), "
            f"got {heads}."
        )
    return Networks(
        models.ConditionalGenerator(
            epsilon=config.epsilon,
            num_classes=num_classes,
            widths=tuple(config.generator.widths),
            num_residual=config.generator.num_residual,
        ),
        models.Discriminator(widths=widths)
        if heads == 1
        else models.TwoHeadDiscriminator(num_classes, widths=widths),
        adam(config.generator, num_steps),
        adam(config.discriminator, num_steps),
    )


def aigan_objective(config: ConfigDict, num_classes: int) -> aigan.AIGANObjective:
    """AI-GAN's losses, weights and bounds, checked.

    Args:
      config: the run's; reads `epsilon` and `loss`.
      num_classes: K.

    Returns:
      What `training.aigan` minimises.

    Raises:
      ValueError: if a bound is negative, a loss unknown, or there is but one class.
    """
    if num_classes < 2:
        raise ValueError(
            f"AI-GAN needs a class to aim at beside the true one, got {num_classes}."
        )
    weight = config.loss.class_weight
    check_at_least("class_weight", weight, 0)
    objective = aigan.AIGANObjective(
        num_classes=num_classes, class_weight=weight, **objective_fields(config)
    )
    aigan.named_loss(objective)  # refuses what is unknown or does not fit together
    return objective


def aigan_attacker(config: ConfigDict) -> BoundAttack:
    """The attacker of stage one.

    Args:
      config: the run's; reads `epsilon` and `attacker`, its hyper-parameters.

    Returns:
      PGD, bound.

    Raises:
      TypeError: for an unknown hyper-parameter.
    """
    return make_attack("pgd", epsilon=config.epsilon, **config.attacker.to_dict())


def aigan_like(config: ConfigDict, num_classes: int, image_shape: Any) -> Any:
    """The shapes of an AI-GAN's state, for reading a checkpoint.

    Args:
      config: the run's.
      num_classes: K.
      image_shape: (H, W, C).

    Returns:
      A state of `jax.ShapeDtypeStruct`s.
    """
    networks = aigan_networks(config, num_classes, 1)
    return jax.eval_shape(
        lambda: aigan.init_state(networks, jax.random.key(0), tuple(image_shape))
    )


def bind_aigan(state: Any, config: ConfigDict, num_classes: int) -> Attack:
    """The generator of a state as an attack.

    Args:
      state: trained or in training.
      config: the run's.
      num_classes: K.

    Returns:
      An attack: `attack(logits_fn, images, target_labels, targeted=True)`.
    """
    networks = aigan_networks(config, num_classes, 1)
    return conditional_generator_attack(
        make_generator_fn(networks.generator),
        state.generator.params,
        epsilon=config.epsilon,
    )
