"""The box-constrained L-BFGS: its settings, state, result and checks."""

from enum import IntEnum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from advgan_jax.checks import check_at_least, is_concrete
from advgan_jax.optimizers.two_loop import Memory
from advgan_jax.types import Array


class Status(IntEnum):
    """The status of a problem."""

    RUNNING = 0
    GRADIENT_CONVERGED = 1
    VALUE_CONVERGED = 2
    ITERATION_LIMIT = 3
    LINE_SEARCH_FAILED = 4
    NON_FINITE_START = 5

    @property
    def message(self) -> str:
        """The status as a sentence."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.RUNNING: "The problem is not solved yet.",
    Status.GRADIENT_CONVERGED: "The projected gradient is within its tolerance.",
    Status.VALUE_CONVERGED: "The value no longer decreases by more than its tolerance.",
    Status.ITERATION_LIMIT: "The iteration limit was reached.",
    Status.LINE_SEARCH_FAILED: "No step along steepest descent lowered the value.",
    Status.NON_FINITE_START: "The value or gradient at the start is not finite.",
}


class Options(NamedTuple):
    """Settings of the optimiser, the same for all problems of a batch.

    Attributes:
      max_iterations: accepted steps per problem; may be traced.
      memory: curvature pairs kept per problem.
      gradient_tolerance: stop when `max |clip(x - g, l, u) - x|` is at most this.
      value_tolerance: stop when a step lowers `f` by at most this times
        `max(|f|, 1)`; a decrease below the rounding of `f` always stops.
        `update` and `step` also take one for each problem, `[B]`.
      max_line_search: trials per line search.
    """

    max_iterations: int = 100
    memory: int = 10
    gradient_tolerance: float = 1e-5
    value_tolerance: float = 1e-9
    max_line_search: int = 20


class State(NamedTuple):
    """The state of a batch of problems; each field has the batch axis first."""

    x: Array  # the best points so far, `[B, ...]`
    value: Array  # `f(x)`, `[B]`
    gradient: Array  # of `f` at `x`, `[B, ...]`
    lower: Array  # bounds, `[B, ...]`
    upper: Array
    step_size: Array  # of the next trial, in lengths of the direction, `[B]`
    trials: Array  # number of rejected trials in this line search, int32 `[B]`
    scale: Array  # step of steepest descent, `s^T y / y^T y` of the last good pair
    memory: Memory  # curvature pairs, oldest first
    iterations: Array  # accepted steps, int32 `[B]`
    num_evaluations: Array  # before the problem stopped, int32 `[B]`
    status: Array  # `Status` values, int32 `[B]`


class BoxLBFGSResult(NamedTuple):
    """The result of `minimize` for each problem.

    Attributes:
      x: the best points, `[B, ...]`.
      value: `f(x)`, `[B]`.
      projected_gradient_norm: `max |clip(x - g, lower, upper) - x|`, `[B]`.
      iterations: accepted steps, int32 `[B]`.
      status: `Status` values, int32 `[B]`.
      num_evaluations: evaluations that the problem needed, int32 `[B]`; of the batch
        there were `max(num_evaluations)`.
    """

    x: Array
    value: Array
    projected_gradient_norm: Array
    iterations: Array
    status: Array
    num_evaluations: Array


def check_options(options: Options) -> None:
    """Raise `ValueError` for an option out of range."""
    check_at_least("max_iterations", options.max_iterations, 0)
    check_at_least("memory", options.memory, 1)
    check_at_least("max_line_search", options.max_line_search, 1)
    check_at_least("gradient_tolerance", options.gradient_tolerance, 0)
    check_at_least("value_tolerance", options.value_tolerance, 0)


def check_problem(
    x0: ArrayLike, lower: ArrayLike, upper: ArrayLike
) -> tuple[Array, Array, Array]:
    """Return the start within its box, and the box, all of one shape and dtype."""
    x = jnp.asarray(x0)
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"`x0` must be float32 or float64, got {x.dtype}: convert it first."
        )
    if x.ndim < 2:
        raise ValueError(
            f"`x0` must have shape [B, ...], B problems of one or more axes, got "
            f"{x.shape}: for one problem add an axis, `x0[None]`."
        )
    for name, bound in (("lower", lower), ("upper", upper)):
        shape = jnp.shape(bound)
        padded = (1,) * (x.ndim - len(shape)) + shape
        pairs = zip(padded, x.shape, strict=False)
        if len(padded) > x.ndim or any(b not in (1, n) for b, n in pairs):
            raise ValueError(
                f"`{name}` must broadcast to the shape of `x0`, {x.shape}, got {shape}."
            )
    if is_concrete(lower, upper) and not np.all(np.asarray(lower) <= np.asarray(upper)):
        raise ValueError(
            "`lower` must be <= `upper` everywhere and neither may be NaN; "
            "were they exchanged?"
        )
    lower = jnp.broadcast_to(jnp.asarray(lower, x.dtype), x.shape)
    upper = jnp.broadcast_to(jnp.asarray(upper, x.dtype), x.shape)
    return jnp.clip(x, lower, upper).astype(x.dtype), lower, upper


def check_evaluation(x: Array, value: Array, gradient: Array) -> None:
    """Raise unless the objective returned `[B]` values and gradients like `x`."""
    for name, array, shape in (
        ("values", value, x.shape[:1]),
        ("gradients", gradient, x.shape),
    ):
        if array.shape != shape:
            raise ValueError(
                f"`value_and_grad` must return {name} of shape {shape}, got "
                f"{array.shape}; one value per problem, gradients of their sum."
            )
        if array.dtype != x.dtype:
            raise TypeError(
                f"`value_and_grad` must return {name} of `x0`'s dtype {x.dtype}, got "
                f"{array.dtype}."
            )
