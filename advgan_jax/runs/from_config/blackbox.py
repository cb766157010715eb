"""The attacker of a black box."""

from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.checks import unknown_name
from advgan_jax.runs.from_config.gans import advgan_networks, advgan_objective
from advgan_jax.runs.from_config.parts import make_optimizer
from advgan_jax.training import blackbox

DISTILLATIONS = ("dynamic", "static")


def blackbox_attacker(
    config: ConfigDict, num_classes: int
) -> tuple[blackbox.Attacker, blackbox.Schedule]:
    """What the attacker of a black box trains, when, and from how many answers.

    Args:
      config: the run's; reads `distillation`, `distilled`, `queries` and `training`,
        and what `advgan_networks` and `advgan_objective` read.
      num_classes: K.

    Returns:
      What `training.blackbox` trains, and what it follows.

    Raises:
      ValueError: for an unknown name, or a number out of range.
    """
    if config.distillation not in DISTILLATIONS:
        raise unknown_name("distillation", config.distillation, DISTILLATIONS)
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
    )
    axis = parallel.axis_name(config.parallel)
    distilled_steps = schedule.distilled_epochs * schedule.distilled_steps
    attacker = blackbox.Attacker(
        advgan_networks(config, schedule.num_rounds * schedule.generator_steps),
        advgan_objective(config, num_classes),
        models.make_classifier(distilled.model, num_classes, axis_name=axis),
        make_optimizer(distilled, distilled_steps),
    )
    return attacker, schedule
