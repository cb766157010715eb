"""Generators, discriminators and objectives of AdvGAN, AI-GAN and the black box."""

from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.attacks import BoundAttack, make_attack
from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.generators import describe_module
from advgan_jax.runs.from_config import (
    check_targets,
    make_optimizer,
    select,
    target_models,
)
from advgan_jax.trainers import Options, defaults
from advgan_jax.training import advgan, aigan, blackbox
from advgan_jax.training.gan import Networks

_SHARED = (
    *("seed", "epsilon", "loss", "discriminator", "generator.learning_rate"),
    *("training.batch_size", "training.compute_dtype"),
)
_ADVGAN = (*_SHARED, "target_class", "training.num_epochs")
_BLACKBOX = (
    *(*_SHARED, "target_class", "training.num_rounds", "training.steps_per_round"),
    *("distillation", "distilled", "answers"),
    *("queries.clean", "queries.perturbed_per_round", "queries.choice"),
)
# The kinds of generators of methods that train several, or none of their own.
_KINDS = {"attacks": "advgan", "query_frontier": "advgan_blackbox"}
# Settings that affect the weights of the generator in a run's workdir, by method.
DEPENDS_ON: dict[str, tuple[str, ...]] = {
    "advgan": _ADVGAN,
    **dict.fromkeys(("advgan_blackbox", "query_frontier"), _BLACKBOX),
    "aigan": (*_SHARED, "attacker", "stage_one.num_epochs", "stage_two.num_epochs"),
    "attacks": _ADVGAN,
}


def describe(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
    """Return the description of the generator that a run trains in its workdir.

    It has what `advgan_jax.generators` needs, and every setting that affects the
    weights. The method is one of `DEPENDS_ON`.
    """
    generator = make_networks(config, dataset.num_classes, 1).generator
    kind = _KINDS.get(config.method, config.method)
    dynamic = kind == "advgan_blackbox" and config.distillation == "dynamic"
    return {
        "kind": kind,
        # How they fall; elsewhere along a cosine.
        **({"rates": "line"} if dynamic else {}),
        "generator": describe_module(generator),
        "image_shape": list(dataset.train.image_shape),
        "num_classes": dataset.num_classes,
        "data": dataset.train.digest,
        "target_model": target_models.describe(config),
        **select(config, *DEPENDS_ON[config.method]),
    }


def make_networks(
    config: ConfigDict, num_classes: int, num_steps: int, *, moving: bool = False
) -> Networks:
    """Return the networks of `config.method`, and optimisers for `num_steps` steps.

    `moving` is that of `defaults.optimizer`.
    """
    section, discriminator = config.generator, config.discriminator
    make_generator: Any = models.Generator
    make_discriminator: Any = models.Discriminator
    if config.method == "aigan":
        make_generator = partial(models.ConditionalGenerator, num_classes=num_classes)
        if discriminator.num_heads == 2:  # source and class
            make_discriminator = partial(models.TwoHeadDiscriminator, num_classes)
    sizes = {"widths": tuple(section.widths), "num_residual": section.num_residual}
    rates = (part.learning_rate for part in (section, discriminator))
    make = partial(defaults.optimizer, num_steps=num_steps, moving=moving)
    return Networks(
        make_generator(epsilon=config.epsilon, **sizes),
        make_discriminator(widths=tuple(discriminator.widths)),
        *map(make, rates),
    )


def advgan_objective(config: ConfigDict, num_classes: int) -> advgan.AdvGANObjective:
    """Return AdvGAN's losses, weights and bounds."""
    check_targets(config, num_classes)
    fields = {"target_class": config.target_class, **_objective_fields(config)}
    objective = advgan.AdvGANObjective(**fields)
    advgan.make_adversarial_loss(objective)  # raises for values that do not match
    return objective


def aigan_objective(config: ConfigDict, num_classes: int) -> aigan.AIGANObjective:
    """Return AI-GAN's losses, weights and bounds."""
    if num_classes < 2:
        raise ValueError(f"AI-GAN needs at least 2 classes, got {num_classes}.")
    fields = {"class_weight": config.loss.class_weight, **_objective_fields(config)}
    objective = aigan.AIGANObjective(num_classes=num_classes, **fields)
    advgan.named_loss(objective)  # raises for values that do not match
    return objective


def arguments(
    config: ConfigDict, networks: Networks, options: Options
) -> dict[str, Any]:
    """Return the arguments that all trainers share."""
    return {
        **networks._asdict(),
        **_objective_fields(config),
        **options._asdict(),
        "key": jax.random.key(config.seed),
        "compute_dtype": config.training.compute_dtype,
    }


def _objective_fields(config: ConfigDict) -> dict[str, Any]:
    """Return the fields that both objectives share."""
    loss = config.loss
    names = ("confidence", "gan_weight", "hinge_weight", "hinge_bound")
    fields = {"epsilon": config.epsilon, **{name: loss[name] for name in names}}
    return {"adversarial_loss": loss.adversarial, "gan_loss": loss.gan, **fields}


def aigan_attacker(config: ConfigDict) -> BoundAttack:
    """Return the PGD attack of AI-GAN's first stage, from the section `attacker`."""
    return make_attack("pgd", epsilon=config.epsilon, **config.attacker.to_dict())


def blackbox_attacker(
    config: ConfigDict, num_classes: int
) -> tuple[blackbox.Attacker, blackbox.Schedule]:
    """Return the networks of a black box's attacker, and the schedule of training."""
    if config.distillation is None:
        raise unknown_name("distillation", "none", blackbox.DISTILLATIONS)
    training, distilled, queries = config.training, config.distilled, config.queries
    schedule = blackbox.Schedule(
        num_rounds=training.num_rounds,
        generator_steps=training.steps_per_round,
        distilled_steps=distilled.steps_per_round,
        initial_epochs=distilled.initial_rounds,
        clean_queries=queries.clean,
        perturbed_queries=queries.perturbed_per_round,
        generator_batch_size=training.batch_size,
        distilled_batch_size=distilled.batch_size,
        dynamic=config.distillation == "dynamic",
        replay=distilled.replay,
        choice=queries.choice,
        **select(distilled, "max_shift", "flip"),
    )
    axis = parallel.axis_name(config.parallel)
    generator_steps = schedule.num_rounds * schedule.generator_steps
    distilled_steps = schedule.distilled_epochs * schedule.distilled_steps
    attacker = blackbox.Attacker(
        make_networks(config, num_classes, generator_steps, moving=schedule.dynamic),
        advgan_objective(config, num_classes),
        models.make_classifier(distilled.model, num_classes, axis_name=axis),
        make_optimizer(distilled, distilled_steps),
    )
    return attacker, schedule
