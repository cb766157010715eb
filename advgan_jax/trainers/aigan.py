"""Train AI-GAN's generator, one for all wanted classes, against any model."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import optax
from jax.typing import ArrayLike

from advgan_jax import models
from advgan_jax.attacks import make_attack, trace_attack
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import Split
from advgan_jax.generators import TrainedGenerator
from advgan_jax.settings import check_settings
from advgan_jax.trainers.problem import make_problem
from advgan_jax.trainers.session import Session, begin, make_networks
from advgan_jax.training import aigan
from advgan_jax.training.gan import Networks
from advgan_jax.training.states import AdvGANState
from advgan_jax.types import Array, Attack, Bounds, LogitsFn

STAGE_ONE = "stage_one"  # the folder of the state after stage one


def train_aigan(
    logits_fn: LogitsFn,
    images: ArrayLike | Split,
    labels: ArrayLike | None = None,
    *,
    epsilon: float,
    key: Array,
    bounds: Bounds = (0.0, 1.0),
    num_epochs: tuple[int, int] | None = None,
    batch_size: int | None = None,
    attacker: Attack | None = None,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    generator_optimizer: optax.GradientTransformation | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    **options: Any,
) -> TrainedGenerator:
    """Train one generator that reaches any wanted class in one forward pass.

    The arguments and errors are those of `train_advgan`, except:

    Args:
      num_epochs: of stage one, which imitates `attacker`, and of stage two.
      attacker: a targeted attack within `epsilon` on images in [0, 1]; by default PGD
        of 10 steps.
      generator: a Flax Linen module, `(images in [0, 1], wanted classes [B])` to
        perturbations.
      discriminator: may be a `models.TwoHeadDiscriminator`.
      **options: weights and names of the losses are those of
        `training.aigan.AIGANObjective`.

    Returns:
      The generator after stage two, an attack: pass `targeted=True` and the wanted
      classes as `labels`. With a `workdir`, `load_generator(workdir / "stage_one")`
      returns the generator after stage one.

    References:
      Bai et al., 2020 (https://arxiv.org/abs/2002.02196).
    """
    problem = make_problem(logits_fn, images, labels, epsilon=epsilon, bounds=bounds)
    shared: Any = {"key": key, "batch_size": batch_size, "options": options}
    session = begin(train_aigan, aigan.AIGANObjective, problem, **shared)
    chosen = session.chosen
    shape, num_classes = problem.images.image_shape, problem.num_classes
    first, second = _pair(chosen.stage_epochs if num_epochs is None else num_epochs)
    plan = session.plan(first + second)
    widths = chosen.conditional_widths
    networks = make_networks(
        session,
        generator
        or models.ConditionalGenerator(problem.epsilon, num_classes, widths, 2),
        discriminator,
        (generator_optimizer, discriminator_optimizer),
        plan.num_steps,
        conditional=True,
    )
    if attacker is None:
        pgd = {"epsilon": problem.epsilon, "num_steps": 10, "random_start": True}
        attacker = make_attack("pgd", **pgd)
    trace_attack(attacker, shape, num_classes, targeted=True)
    state = _train_stages(session, networks, attacker, (first, second))
    return session.finish(
        networks.generator,
        state.generator.params,
        conditional=True,
        switches=[session.plan(first).num_steps] if first and second else [],
    )


def _pair(num_epochs: Any) -> tuple[int, int]:
    """Return the epochs of both stages; `ValueError` unless there are two numbers."""
    if not isinstance(num_epochs, Sequence) or len(num_epochs) != 2:
        raise ValueError(
            "`num_epochs` must be a pair, those of stage one and of stage two, got "
            f"{num_epochs!r}."
        )
    check_settings({"num_epochs": num_epochs[0]})
    return num_epochs[0], num_epochs[1]


def _train_stages(
    session: Session, networks: Networks, attacker: Attack, num_epochs: tuple[int, int]
) -> AdvGANState:
    """Train one state in two stages; save it after stage one, if that has epochs."""
    problem, options = session.problem, session.options
    objective = aigan.AIGANObjective(
        problem.epsilon, problem.num_classes, **session.loss
    )
    state = aigan.init_state(networks, session.key, problem.images.image_shape)
    settings = {"target_class": None, "num_epochs": list(num_epochs)}
    description = session.describe("aigan", networks, state, **settings)
    one = session.plan(num_epochs[0])
    state = session.train(
        state,
        lambda mixed: aigan.make_first_step(mixed, objective, attacker),
        networks,
        one,
        description=description,
        title="AI-GAN, stage 1",
    )
    if num_epochs[0] and options.workdir is not None:
        # Save the state after stage one, unless training is past it.
        with Checkpoints(options.workdir / STAGE_ONE / "checkpoints") as checkpoints:
            if int(state.step) == one.num_steps:
                checkpoints.save(int(state.step), state, description)
    return session.train(
        state,
        lambda mixed: aigan.make_second_step(mixed, objective),
        networks,
        session.plan(sum(num_epochs)),
        description=description,
        title="AI-GAN, stage 2",
    )
