"""Code that the trainers share: sort options, make networks, train, and finish."""

import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from advgan_jax import checks, digest, models, parallel
from advgan_jax.generators import TrainedGenerator, TrainedOn, describe_module
from advgan_jax.reporting import read_metrics, save_figure, training_curves, versions
from advgan_jax.settings import check_settings
from advgan_jax.trainers import checkpointed, defaults
from advgan_jax.trainers.checkpointed import Options
from advgan_jax.trainers.problem import Problem, identify
from advgan_jax.training.fit import Plan
from advgan_jax.training.gan import Networks
from advgan_jax.training.precision import mixed_logits_fn, mixed_networks
from advgan_jax.types import Array, Params

_NOT_OF_LOSS = {"epsilon", "target_class", "num_classes"}
# Arguments that are settings of configurations, too.
_CHECKED = {
    *("gan_weight", "hinge_weight", "hinge_bound", "class_weight", "confidence"),
    *("compute_dtype", "epochs_per_checkpoint", "max_resident_bytes", "steps_per_call"),
}


class Session(NamedTuple):
    """One call of a trainer.

    Attributes:
      problem: the model and the images, in units of [0, 1].
      options: with an order key and an absolute workdir.
      loss: the fields of the objective that the caller gave.
      newest: always contains the newest metrics.
      key: of the training.
      chosen: the sizes and rates of `defaults`.
    """

    problem: Problem
    options: Options
    loss: dict[str, Any]
    newest: dict[str, float]
    key: Array
    chosen: defaults.Defaults

    def plan(self, num_epochs: int) -> Plan:
        """Plan so many epochs on all images."""
        check_settings({"num_epochs": num_epochs})
        size, count = self.chosen.batch_size, len(self.problem.images)
        parallel.check_divides(size, parallel.num_shards(self.options.parallel))
        return self.options.plan(count, size, num_epochs)

    def train(
        self,
        state: Any,
        make_step: Callable[[Networks], Callable[..., Any]],
        networks: Networks,
        plan: Plan,
        *,
        description: Mapping[str, Any],
        title: str,
    ) -> Any:
        """Train a state against the model; see `checkpointed.train`."""
        dtype = self.options.compute_dtype
        return checkpointed.train(
            self.options._replace(description=description),
            state,
            make_step(mixed_networks(dtype, networks)),
            self.problem.images,
            plan,
            frozen=(mixed_logits_fn(dtype, self.problem.logits_fn),),
            title=title,
        )

    def describe(
        self, kind: str, networks: Networks, state: Any, **settings: Any
    ) -> Mapping[str, Any]:
        """Return the caller's description, or JSON values that decide the weights."""
        if self.options.description is not None or self.options.workdir is None:
            return self.options.description or {}
        generator, discriminator = state.generator.params, state.discriminator.params
        return {
            "kind": kind,
            "generator": describe_module(networks.generator),
            "discriminator": describe_module(networks.discriminator),
            "generator_optimizer": _identify(networks.generator_optimizer, generator),
            "discriminator_optimizer": _identify(
                networks.discriminator_optimizer, discriminator
            ),
            "image_shape": list(self.problem.images.image_shape),
            "num_classes": self.problem.num_classes,
            "epsilon": self.problem.pixel_epsilon,
            "bounds": list(self.problem.bounds),
            "loss": self.loss,
            "batch_size": self.chosen.batch_size,
            "compute_dtype": self.options.compute_dtype,
            "seed": _seed(self.key),
            "key": np.asarray(jax.random.key_data(self.key)).tolist(),
            **identify(self.problem),
            **settings,
        }

    def finish(
        self,
        module: nn.Module,
        params: Params,
        *,
        switches: Sequence[int] = (),
        **aim: Any,
    ) -> TrainedGenerator:
        """Draw the curves of the training in its workdir, and return the generator.

        `switches` are the steps after which another phase began; see `generator` for
        the other arguments.
        """
        success = self.newest.get("success_rate")
        if self.options.workdir is not None:
            rows = draw_curves(self.options.workdir, switches)
            shares = [row["success_rate"] for row in rows if "success_rate" in row]
            success = shares[-1] if shares else None
        return self.generator(module, params, success, **aim)

    def generator(
        self, module: nn.Module, params: Params, success: float | None, **aim: Any
    ) -> TrainedGenerator:
        """Return a generator; `aim` is its `target_class`, or `conditional`."""
        problem, name = self.problem, self.options.name or self.problem.name
        return TrainedGenerator(
            module,
            params,
            epsilon=problem.pixel_epsilon,
            image_shape=problem.images.image_shape,
            num_classes=problem.num_classes,
            bounds=problem.bounds,
            trained_on=TrainedOn(name, success, _seed(self.key), versions()),
            **aim,
        )


def draw_curves(
    workdir: pathlib.Path, switches: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Draw the curves of a training, unless it had no steps; return its metrics."""
    rows = read_metrics(workdir)
    if rows:
        figure = training_curves(rows, switches=switches)
        save_figure(figure, workdir / "figures" / "curves.png")
    return rows


def begin(
    trainer: Callable[..., Any],
    objective: Any,
    problem: Problem,
    *,
    key: Array,
    batch_size: int | None,
    options: Mapping[str, Any],
) -> Session:
    """Check what all trainers share, and choose what the caller omitted.

    `trainer` is the public function, and `objective` the class of its loss.
    """
    given, loss, newest = _sort_options(trainer, objective, key, options)
    if batch_size is not None:
        check_settings({"batch_size": batch_size})
    shape, count = problem.images.image_shape, len(problem.images)
    chosen = defaults.choose(shape, count, batch_size)
    return Session(problem, given, loss, newest, key, chosen)


def _sort_options(
    trainer: Callable[..., Any], objective: Any, key: Array, given: Mapping[str, Any]
) -> tuple[Options, dict[str, Any], dict[str, float]]:
    """Divide keyword arguments into options and fields of the objective.

    The third result is a dictionary that will always contain the newest metrics.

    Raises:
      TypeError: for an unknown argument; names the nearest one.
      ValueError: for a value that breaks the rule of its setting.
    """
    checks.check_key(trainer.__name__, key)
    of_loss = set(objective._fields) - _NOT_OF_LOSS
    for name in given:
        if name not in of_loss and name not in Options._fields:
            own = [
                argument.name
                for argument in inspect.signature(trainer).parameters.values()
                if argument.kind is argument.KEYWORD_ONLY
            ]
            known = {*own, *of_loss, *Options._fields}
            kind = f"argument of {trainer.__name__}"
            error = checks.unknown_name(kind, name, known)
            raise TypeError(str(error))
    loss = {name: given[name] for name in given if name in of_loss}
    options = Options(**{name: given[name] for name in given if name not in loss})
    chosen = {name: given[name] for name in given if name in _CHECKED}
    check_settings({name: v for name, v in chosen.items() if v is not None})
    newest: dict[str, float] = {}

    def _log(step: int, metrics: Mapping[str, float]) -> None:
        newest.update(metrics)
        if options.callback is not None:
            options.callback(step, metrics)

    parallel.choose_mode(options.parallel)  # raises for an unknown one
    changes: dict[str, Any] = {"callback": _log}
    if options.order_key is None:
        changes["order_key"] = jax.random.fold_in(key, 1)
    if options.workdir is not None:
        changes["workdir"] = pathlib.Path(options.workdir).absolute()
    return options._replace(**changes), loss, newest


def make_networks(
    session: Session,
    generator: nn.Module,
    discriminator: nn.Module | None,
    optimizers: tuple[optax.GradientTransformation | None, ...],
    num_steps: int,
    *,
    conditional: bool = False,
    moving: bool = False,
) -> Networks:
    """Complete the networks and their optimisers by the defaults, and check them."""
    chosen, shape = session.chosen, (2, *session.problem.images.image_shape)
    discriminator = discriminator or models.Discriminator(chosen.widths)
    images: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
    classes = (jax.ShapeDtypeStruct((2,), jnp.int32),) if conditional else ()
    _check_module("generator", generator, shape, images, *classes)
    _check_module("discriminator", discriminator, (2,), images)
    rates = (chosen.learning_rate, chosen.discriminator_rate)
    made = (
        defaults.optimizer(rate, num_steps, moving=moving) if given is None else given
        for given, rate in zip(optimizers, rates, strict=True)
    )
    return Networks(generator, discriminator, *made)


def _check_module(
    name: str, module: Any, wanted: tuple[int, ...], *inputs: jax.ShapeDtypeStruct
) -> None:
    """Raise unless a network is of Linen, has weights only, and returns a shape."""
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`{name}` must be a Flax Linen module, got {type(module).__name__}."
        )
    hash(module)  # raises `TypeError` for a field that no compiled program can hold
    key = jax.random.key(0)
    found, variables = jax.eval_shape(module.init_with_output, key, *inputs)
    if set(variables) != {"params"}:
        raise ValueError(
            f"`{name}` must have weights and no other variables, got "
            f"{', '.join(sorted(variables))}; use InstanceNorm for batch normalisation."
        )
    first = found[0] if isinstance(found, tuple) else found
    if first.shape != wanted:
        raise ValueError(
            f"`{name}` must map images {list(inputs[0].shape)} to {list(wanted)}, got "
            f"{list(first.shape)}."
        )


def _identify(optimizer: optax.GradientTransformation, params: Params) -> str:
    """Identify an optimiser, which is a pair of functions, by the program of a step."""

    def _update(params: Params) -> Any:
        return optimizer.update(params, optimizer.init(params), params)

    program = digest.program_text(_update, params)
    return digest.of_json(program)[: digest.SHORT]


def _seed(key: Array) -> int | None:
    """Return the seed of `jax.random.key(seed)`; None for a derived key."""
    high, *low = np.asarray(jax.random.key_data(key)).tolist()
    return low[0] if high == 0 and len(low) == 1 else None
