"""Define the settings, the state, the result and the checks of L-BFGS in a box."""

from enum import IntEnum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from advgan_jax.checks import check_at_least, is_concrete
from advgan_jax.optimizers.two_loop import Memory
from advgan_jax.types import Array, Scalar


class Status(IntEnum):
    """The status of a problem."""

    RUNNING = 0
    GRADIENT_CONVERGED = 1  # the projected gradient is within its tolerance
    VALUE_CONVERGED = 2  # a step lowered the value by no more than its tolerance
    ITERATION_LIMIT = 3
    LINE_SEARCH_FAILED = 4  # no step along steepest descent lowered the value
    NON_FINITE_START = 5  # the value or the gradient at the start is not finite


class Options(NamedTuple):
    """Settings of the optimiser, the same for all problems of a batch.

    Attributes:
      max_iterations: the most accepted steps per problem; may be traced.
      memory: the most curvature pairs per problem.
      gradient_tolerance: stop when `max |clip(x - g, l, u) - x|` is at most this.
      value_tolerance: stop when a step lowers `f` by at most this times `max(|f|, 1)`
        or by less than its rounding. Both tolerances may be arrays `[B]`, except in
        `init` and `minimize`.
      max_line_search: the most trials per line search.
    """

    max_iterations: int = 100
    memory: int = 10
    gradient_tolerance: Scalar = 1e-5
    value_tolerance: Scalar = 1e-9
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
      num_evaluations: evaluations that the problem needed, int32 `[B]`; the batch
        needed the largest of them.
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
    """Return the clipped start and both bounds, all of one shape and dtype."""
    x = jnp.asarray(x0)
    if x.dtype not in (jnp.float32, jnp.float64):
        got = f"got {x.dtype}: convert it first"
        raise TypeError(f"`x0` must be float32 or float64, {got}.")
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
            "`lower` must be <= `upper` everywhere and neither may be NaN; are they "
            "exchanged?"
        )
    lower = jnp.broadcast_to(jnp.asarray(lower, x.dtype), x.shape)
    upper = jnp.broadcast_to(jnp.asarray(upper, x.dtype), x.shape)
    return jnp.clip(x, lower, upper).astype(x.dtype), lower, upper


def check_value_and_grad(x: Array, value: Array, gradient: Array) -> None:
    """Raise unless the objective returned `[B]` values and gradients like `x`."""
    results = (("values", value, x.shape[:1]), ("gradients", gradient, x.shape))
    for name, array, shape in results:
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
