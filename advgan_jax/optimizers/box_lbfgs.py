r"""Batched L-BFGS in a box: many independent problems, solved side by side.

Each problem `i` of a batch minimises its own `f_i(x_i)` over `l_i <= x_i <= u_i`, with
its own curvature pairs, line search and end; only the evaluation is shared. A step is
*one* evaluation of all problems: while one of them shortens its trial step, another is
already on its next iteration, so no problem waits for its batch mates.

The direction is the two-metric projection: the L-BFGS inverse Hessian cut to the free
variables, those not held at a bound by their gradient. The line search backtracks
along the projected path `clip(x + t d, l, u)` until

.. math:: f(x_t) \le f(x) + 10^{-4} \min(g^T (x_t - x), 0),

with steps from safeguarded quadratic interpolation. After a failed search the memory is
dropped and steepest descent tried. Every evaluated point lies in the box, and values
never increase.

Deviations from L-BFGS-B (Byrd, Lu, Nocedal & Zhu, 1995): no generalised Cauchy point,
whose search over breakpoints is sequential in the variables, and no strong Wolfe
search: a pair without curvature is skipped instead.

References:
  Bertsekas, Projected Newton methods for optimization problems with simple
  constraints, SIAM J. Control and Optimization 20(2), 1982.
  Byrd, Lu, Nocedal & Zhu, A limited memory algorithm for bound constrained
  optimization, SIAM J. Scientific Computing 16(5), 1995.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from advgan_jax.optimizers import two_loop
from advgan_jax.optimizers.box_problem import (
    BoxLBFGSResult,
    Options,
    State,
    Status,
    check_evaluation,
    check_options,
    check_problem,
)
from advgan_jax.optimizers.two_loop import Memory, dot, expand, select
from advgan_jax.types import Array

ValueAndGrad = Callable[[Array], tuple[Array, Array]]

_SUFFICIENT_DECREASE = 1e-4
# Kinks of ReLU networks give wild quadratics: 0.1 as the least factor was worse.
_SHRINK_RANGE = (0.25, 0.5)


def minimize(
    value_and_grad: ValueAndGrad,
    x0: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    max_iterations: int = 100,
    memory: int = 10,
    gradient_tolerance: float = 1e-5,
    value_tolerance: float = 1e-9,
    max_line_search: int = 20,
) -> BoxLBFGSResult:
    """Minimises a batch of independent functions, each in its box.

    The loop is a `lax.while_loop`. Call it within `jax.jit`; called eagerly it is
    compiled anew each time.

    Args:
      value_and_grad: `x [B, ...] -> (values [B], gradients [B, ...])`, where row `i`
        depends on `x[i]` alone. To get it, differentiate the sum of the values. A
        value or gradient that is not finite counts as a failed trial.
      x0: start, `[B, ...]`, float32 or float64; put into the box first.
      lower: least values, broadcastable to `x0`; may be `-inf`.
      upper: greatest values, broadcastable to `x0`; may be `inf`.
      max_iterations: see `Options`, as for the rest.
      memory: curvature pairs kept per problem.
      gradient_tolerance: bound on the projected gradient, in units of `f / x`.
      value_tolerance: bound on the decrease, relative to `max(|f|, 1)`.
      max_line_search: trials per line search.

    Returns:
      A `BoxLBFGSResult`; no value is above that of the start.

    Raises:
      TypeError: if `x0` is not float32 or float64, or `value_and_grad` returns
        another dtype.
      ValueError: if a shape or an option is wrong, or `lower > upper` somewhere.
    """
    options = Options(
        max_iterations, memory, gradient_tolerance, value_tolerance, max_line_search
    )
    state = lax.while_loop(
        lambda state: jnp.any(running(state)),
        lambda state: step(value_and_grad, state, options),
        init(value_and_grad, x0, lower, upper, options),
    )
    return BoxLBFGSResult(
        state.x,
        state.value,
        _projected_gradient_norm(state.x, state.gradient, state.lower, state.upper),
        state.iterations,
        state.status,
        state.num_evaluations,
    )


def init(
    value_and_grad: ValueAndGrad,
    x0: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    options: Options | None = None,
) -> State:
    """Evaluates the start, once; arguments and errors as in `minimize`."""
    options = Options() if options is None else options
    check_options(options)
    x, lower, upper = check_problem(x0, lower, upper)
    value, gradient = value_and_grad(x)
    check_evaluation(x, value, gradient)

    # The first trial step has length one, like that of L-BFGS-B. Dividing by the
    # largest entry first keeps the squares from overflow.
    tiny = jnp.finfo(x.dtype).tiny
    largest = jnp.max(jnp.abs(gradient), axis=_trailing(x), initial=tiny)
    scaled = gradient / expand(largest, x)
    scale = 1 / jnp.maximum(largest * jnp.sqrt(dot(scaled, scaled)), tiny)
    zeros = two_loop.blank(value, jnp.int32)
    norm = _projected_gradient_norm(x, gradient, lower, upper)
    status = jnp.where(zeros >= options.max_iterations, Status.ITERATION_LIMIT, zeros)
    status = jnp.where(
        norm <= options.gradient_tolerance, Status.GRADIENT_CONVERGED, status
    )
    status = jnp.where(_finite(value, gradient), status, Status.NON_FINITE_START)
    return State(
        x=x,
        value=value,
        gradient=gradient,
        lower=lower,
        upper=upper,
        direction=-expand(scale, x) * gradient,
        step_size=two_loop.blank(value) + 1,
        trials=zeros,
        scale=scale,
        memory=two_loop.empty_memory(x, options.memory),
        iterations=zeros,
        num_evaluations=zeros + 1,
        status=status,
    )


def running(state: State) -> Array:
    """Which problems are still being solved, bool `[B]`."""
    return state.status == Status.RUNNING


def converged(state: State | BoxLBFGSResult) -> Array:
    """Which problems met a tolerance (not merely stopped), bool `[B]`."""
    return (state.status == Status.GRADIENT_CONVERGED) | (
        state.status == Status.VALUE_CONVERGED
    )


def step(value_and_grad: ValueAndGrad, state: State, options: Options) -> State:
    """Evaluates one trial point of each running problem and acts on it.

    Problems that have stopped are evaluated again at their point and left unchanged.

    Args:
      value_and_grad: as in `minimize`.
      state: from `init` or the last `step`.
      options: the same as given to `init`.

    Returns:
      The next state. A trial was accepted where `iterations` went up; elsewhere the
      next one is shorter, or is steepest descent if the line search has failed.
    """
    x, active = state.x, running(state)
    trial = jnp.clip(
        x + expand(state.step_size, x) * state.direction, state.lower, state.upper
    )
    trial = select(active, trial, x)
    value, gradient = value_and_grad(trial)
    slope = dot(state.gradient, trial - x)
    finite = _finite(value, gradient)
    enough = state.value + _SUFFICIENT_DECREASE * jnp.minimum(slope, 0)
    accept = active & finite & (value <= enough)
    reject = active & ~accept

    rounding = jnp.finfo(x.dtype).eps * jnp.abs(state.value)
    too_small = finite & (jnp.abs(slope) <= rounding)
    trials = state.trials + reject
    failed = reject & (too_small | (trials >= options.max_line_search))
    restart = failed & (state.memory.count > 0)
    shrink = _shrink(value - state.value, slope, finite)

    moved = _move(state, trial, value, gradient, accept, restart)
    status = jnp.where(
        failed & ~restart,
        jnp.where(too_small, Status.VALUE_CONVERGED, Status.LINE_SEARCH_FAILED),
        _status_after_move(state, moved, accept, options),
    )
    fresh = accept | restart
    return moved._replace(
        step_size=jnp.where(
            fresh, 1, jnp.where(reject, state.step_size * shrink, state.step_size)
        ),
        trials=jnp.where(fresh, 0, trials),
        num_evaluations=state.num_evaluations + active,
        status=jnp.where(active, status, state.status),
    )


def _move(
    state: State,
    trial: Array,
    value: Array,
    gradient: Array,
    accept: Array,
    restart: Array,
) -> State:
    """Takes the accepted trials, learns their pairs, and sets new directions."""
    s, y = trial - state.x, gradient - state.gradient
    learn = accept & two_loop.has_curvature(s, y)
    memory = two_loop.push(state.memory, s, y, learn)
    memory = two_loop.clear(memory, restart)
    ratio = dot(s, y) / jnp.where(learn, dot(y, y), 1)
    scale = jnp.where(learn & jnp.isfinite(ratio), ratio, state.scale)
    x = select(accept, trial, state.x)
    gradient = select(accept, gradient, state.gradient)
    direction = _direction(x, gradient, state.lower, state.upper, memory, scale)
    return state._replace(
        x=x,
        value=jnp.where(accept, value, state.value),
        gradient=gradient,
        direction=select(accept | restart, direction, state.direction),
        scale=scale,
        memory=memory,
        iterations=state.iterations + accept,
    )


def _status_after_move(
    before: State, after: State, accept: Array, options: Options
) -> Array:
    """Status of each problem by what the last step has changed, int32 `[B]`."""
    size = jnp.maximum(jnp.abs(before.value), jnp.abs(after.value))
    tolerance = jnp.maximum(
        options.value_tolerance * jnp.maximum(size, 1),
        jnp.finfo(size.dtype).eps * size,
    )
    norm = _projected_gradient_norm(after.x, after.gradient, after.lower, after.upper)
    status = jnp.where(
        after.iterations >= options.max_iterations,
        Status.ITERATION_LIMIT,
        Status.RUNNING,
    )
    stalled = accept & (before.value - after.value <= tolerance)
    status = jnp.where(stalled, Status.VALUE_CONVERGED, status)
    small = norm <= options.gradient_tolerance
    return jnp.where(small, Status.GRADIENT_CONVERGED, status).astype(jnp.int32)


def _direction(
    x: Array, gradient: Array, lower: Array, upper: Array, memory: Memory, scale: Array
) -> Array:
    """Quasi-Newton direction of the free variables, else steepest descent."""
    held = ((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0))
    newton = -two_loop.inverse_hessian_product(memory, gradient, ~held, scale)
    slope = dot(gradient, newton)
    descends = jnp.isfinite(slope) & (slope < 0)
    return select(descends, newton, -expand(scale, x) * gradient)


def _shrink(rise: Array, slope: Array, finite: Array) -> Array:
    """Factor for a rejected step: least of the parabola through values and slope."""
    least, most = _SHRINK_RANGE
    curved = finite & (slope < 0) & (rise > slope)
    factor = -slope / jnp.where(curved, 2 * (rise - slope), 1)
    return jnp.where(curved, jnp.clip(factor, least, most), least)


def _projected_gradient_norm(
    x: Array, gradient: Array, lower: Array, upper: Array
) -> Array:
    """Max-norm of `x - clip(x - g, l, u)`, `[B]`; in this form it never cancels."""
    projected = jnp.clip(gradient, x - upper, x - lower)
    return jnp.max(jnp.abs(projected), axis=_trailing(x), initial=0)


def _finite(value: Array, gradient: Array) -> Array:
    return jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient), _trailing(gradient))


def _trailing(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))
