"""Train AdvGAN's generator against a black box, by queries."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import optax
from jax.typing import ArrayLike

from advgan_jax import models, parallel
from advgan_jax.checks import check_class
from advgan_jax.data import Split
from advgan_jax.generators import TrainedGenerator, describe_module
from advgan_jax.oracles import Oracle
from advgan_jax.reporting import read_metrics
from advgan_jax.trainers import checkpointed, defaults
from advgan_jax.trainers.checkpointed import Stopped
from advgan_jax.trainers.problem import make_queried
from advgan_jax.trainers.session import Session, begin, make_networks
from advgan_jax.training import blackbox
from advgan_jax.training.advgan import AdvGANObjective
from advgan_jax.training.precision import mixed_module, mixed_networks
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Array, Bounds, LogitsFn

# Metrics from a generator, the distilled model and the number of the round.
Measure = Callable[[TrainedGenerator, LogitsFn, int], Mapping[str, float]]


def train_blackbox(
    oracle: Oracle,
    images: ArrayLike | Split,
    labels: ArrayLike | None = None,
    *,
    epsilon: float,
    key: Array,
    distillation: str = "dynamic",
    num_queries: int = 20_000,
    choice: str = "random",
    target_class: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    schedule: blackbox.Schedule | None = None,
    distilled: nn.Module | None = None,
    distilled_optimizer: optax.GradientTransformation | None = None,
    measure: Measure | None = None,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    generator_optimizer: optax.GradientTransformation | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    **options: Any,
) -> TrainedGenerator:
    """Train a generator against a model that only answers queries.

    The attacker distils the black box into a model of its own, and trains the generator
    against that. Arguments and errors are those of `train_advgan`, except:

    Args:
      oracle: the black box. It is sent images in [0, 1], also with other `bounds`.
      images: the attacker's; the black box should not have been trained on them.
      labels: their classes; None means the distilled model's predictions.
      distillation: `dynamic` also queries images that the generator perturbed, `static`
        only clean ones.
      num_queries: of all rounds together.
      choice: of the perturbed images to query: `random`, or those about which the
        distilled model is the most uncertain, by `margin` or `entropy`.
      schedule: replaces `distillation`, `num_queries`, `choice` and the default lengths
        of all trainings.
      distilled: a Flax Linen module, `(images, train) -> logits`.
      distilled_optimizer: any optax optimiser.
      measure: called after each round with the generator, the distilled model and the
        number of the round; returns metrics to log.
      **options: see `train_advgan`. A `workdir` needs an oracle whose ledger is a file.

    Returns:
      The generator, an attack. Its record has the success on the distilled model.

    Raises:
      OracleError: if the black box fails. With a `workdir`, the same call resumes and
        repeats no query.

    References:
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.3.
    """
    problem, known = make_queried(
        oracle, images, labels, epsilon=epsilon, bounds=bounds
    )
    check_class(target_class, problem.num_classes)
    shared: Any = {"key": key, "batch_size": None, "options": options}
    session = begin(train_blackbox, AdvGANObjective, problem, **shared)
    if session.options.workdir is not None and oracle.ledger.path is None:
        raise ValueError(
            "A training with a `workdir` needs an oracle whose ledger is a file, or it "
            "could not resume: `Oracle(..., ledger=Ledger('queries.ledger'))`."
        )
    count = len(problem.images)
    if schedule is None:
        schedule = defaults.schedule(distillation, num_queries, count, choice)
    schedule.check_images(count, problem.images.image_shape)
    networks = make_networks(
        session,
        generator or models.Generator(problem.epsilon, session.chosen.widths),
        discriminator,
        (generator_optimizer, discriminator_optimizer),
        schedule.num_rounds * schedule.generator_steps,
        moving=schedule.dynamic,
    )
    objective = AdvGANObjective(problem.epsilon, target_class, **session.loss)
    own = _distilled(session, schedule, distilled, distilled_optimizer)
    attacker = blackbox.Attacker(networks, objective, *own)
    state = _train(session, oracle, attacker, schedule, known, measure)
    params = state.advgan.generator.params
    return session.finish(networks.generator, params, target_class=target_class)


def _distilled(
    session: Session,
    schedule: blackbox.Schedule,
    model: nn.Module | None,
    optimizer: optax.GradientTransformation | None,
) -> tuple[nn.Module, optax.GradientTransformation]:
    """Return the distilled model and its optimiser, by default of the images' size."""
    if model is None:
        axis = parallel.axis_name(session.options.parallel)
        name = defaults.classifier(session.problem.images.image_shape)
        num_classes = session.problem.num_classes
        model = models.make_classifier(name, num_classes, axis_name=axis)
    if optimizer is None:
        num_steps = schedule.distilled_epochs * schedule.distilled_steps
        optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, num_steps))
    return model, optimizer


def _train(
    session: Session,
    oracle: Oracle,
    attacker: blackbox.Attacker,
    schedule: blackbox.Schedule,
    known: bool,
    measure: Measure | None,
) -> BlackBoxState:
    """Train the attacker, or resume; `known` says whether classes are given."""
    split, dtype = session.problem.images, session.options.compute_dtype
    state = blackbox.init_state(attacker, schedule, session.key, split.image_shape)
    settings = {"schedule": dataclasses.asdict(schedule), "labels": known}
    settings["distilled"] = describe_module(attacker.model)
    settings["target_class"] = attacker.objective.target_class
    named = ("advgan_blackbox", attacker.networks, state.advgan)
    description = session.describe(*named, **settings)
    mixed = attacker._replace(
        networks=mixed_networks(dtype, attacker.networks),
        model=mixed_module(dtype, attacker.model),
    )
    options = session.options._replace(description=description)
    with checkpointed.resumable(options, state) as (state, hooks):
        record = partial(_record, session, oracle, attacker, measure, hooks.log)
        labels = split.labels if known else None
        shown = (state, oracle, split.images, labels, mixed, schedule)
        mode = options.parallel
        state, finished = blackbox.fit(*shown, mode=mode, hooks=hooks, record=record)
    if not finished:
        raise Stopped(
            f"Stopped at step {int(state.step)}, after {oracle.queries} queries; saved."
        )
    return state


def _record(
    session: Session,
    oracle: Oracle,
    attacker: blackbox.Attacker,
    measure: Measure | None,
    log: Callable[..., None],
    state: BlackBoxState,
    number: int,
) -> None:
    """Log the queries and the caller's metrics after a round, once."""
    step, workdir = int(state.step), session.options.workdir
    rows = [] if workdir is None else read_metrics(workdir)
    if any(row["step"] == step and "queries" in row for row in rows):
        return
    metrics: dict[str, float] = {"queries": int(state.queries.max())}
    if measure is not None:
        module, params = attacker.networks.generator, state.advgan.generator.params
        aim = attacker.objective.target_class
        generator = session.generator(module, params, None, target_class=aim)
        distilled_fn = blackbox.distilled_logits_fn(attacker, state)
        metrics |= measure(generator, distilled_fn, number)
    log(step, metrics)
