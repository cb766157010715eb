"""Take one step of the batched L-BFGS, split where the objective is evaluated.

`propose` returns the next trial point of each problem; `update` takes the value and the
gradient there. Between the two, the caller may compute more, or replace a finished
problem in its row. `revise` continues from the same point with another objective.
"""

import jax.numpy as jnp

from advgan_jax.optimizers import two_loop
from advgan_jax.optimizers.box_problem import Options, State, Status
from advgan_jax.optimizers.two_loop import dot, expand, select
from advgan_jax.types import Array

_SUFFICIENT_DECREASE = 1e-4
# Kinks of ReLU networks give wild quadratics: 0.1 as the least factor was worse.
_SHRINK_RANGE = (0.25, 0.5)


def begin(
    x: Array,
    value: Array,
    gradient: Array,
    lower: Array,
    upper: Array,
    options: Options,
) -> State:
    """Return the state at an evaluated start, with empty memory and no evaluations.

    `State` describes the arguments, which are not checked.
    """
    # The first trial step has length one, as in L-BFGS-B. Dividing by the largest entry
    # first keeps the squares from overflow.
    tiny = jnp.finfo(x.dtype).tiny
    largest = jnp.max(jnp.abs(gradient), axis=_trailing(x), initial=tiny)
    scaled = gradient / expand(largest, x)
    zeros = two_loop.blank(value, jnp.int32)
    state = State(
        x=x,
        value=value,
        gradient=gradient,
        lower=lower,
        upper=upper,
        step_size=two_loop.blank(value) + 1,
        trials=zeros,
        scale=1 / jnp.maximum(largest * jnp.sqrt(dot(scaled, scaled)), tiny),
        memory=two_loop.empty_memory(x, options.memory),
        iterations=zeros,
        num_evaluations=zeros,
        status=zeros,
    )
    return state._replace(status=_status_at_start(state, options))


def revise(
    state: State,
    where: Array,
    value: Array,
    gradient: Array,
    gradient_changes: Array,
    options: Options,
) -> State:
    """Give the problems in `where` `[B]` another objective at their current point.

    `value` and `gradient` are those of the new objectives at `state.x`. So are
    `gradient_changes` along `state.memory.steps`; zeros there disable a pair. The
    chosen problems count iterations from 0 and run again, unless they are at a minimum.
    """
    memory = state.memory._replace(
        gradient_changes=select(where, gradient_changes, state.memory.gradient_changes)
    )
    revised = state._replace(
        value=jnp.where(where, value, state.value),
        gradient=select(where, gradient, state.gradient),
        step_size=jnp.where(where, 1, state.step_size),
        trials=jnp.where(where, 0, state.trials),
        memory=memory,
        iterations=jnp.where(where, 0, state.iterations),
    )
    status = jnp.where(where, _status_at_start(revised, options), state.status)
    return revised._replace(status=status)


def propose(state: State) -> Array:
    """Return the points to evaluate next, `[B, ...]`: `x` for stopped problems."""
    x = state.x
    trial = x + expand(state.step_size, x) * _direction(state)
    trial = jnp.clip(trial, state.lower, state.upper)
    return select(running(state), trial, x)


def update(
    state: State, trial: Array, value: Array, gradient: Array, options: Options
) -> State:
    """Return the next state, given the value and the gradient at the proposed `trial`.

    `iterations` increases where the trial is accepted. Elsewhere the next trial is
    shorter, or takes steepest descent after a failed line search.
    """
    active = running(state)
    slope = dot(state.gradient, trial - state.x)
    finite = _finite(value, gradient)
    enough = state.value + _SUFFICIENT_DECREASE * jnp.minimum(slope, 0)
    accept = active & finite & (value <= enough)
    reject = active & ~accept

    rounding = jnp.finfo(trial.dtype).eps * jnp.abs(state.value)
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
    step_size = jnp.where(reject, state.step_size * shrink, state.step_size)
    return moved._replace(
        step_size=jnp.where(fresh, 1, step_size),
        trials=jnp.where(fresh, 0, trials),
        num_evaluations=state.num_evaluations + active,
        status=jnp.where(active, status, state.status),
    )


def running(state: State) -> Array:
    """Return which problems are still being solved, bool `[B]`."""
    return state.status == Status.RUNNING


def projected_gradient_norm(state: State) -> Array:
    """Return `max |x - clip(x - g, l, u)|`, `[B]`, in a form without cancellation."""
    x = state.x
    projected = jnp.clip(state.gradient, x - state.upper, x - state.lower)
    return jnp.max(jnp.abs(projected), axis=_trailing(x), initial=0)


def _move(
    state: State,
    trial: Array,
    value: Array,
    gradient: Array,
    accept: Array,
    restart: Array,
) -> State:
    """Take the accepted trials and remember their curvature pairs."""
    s, y = trial - state.x, gradient - state.gradient
    learn = accept & two_loop.has_curvature(s, y)
    memory = two_loop.push(state.memory, s, y, learn)
    ratio = dot(s, y) / jnp.where(learn, dot(y, y), 1)
    return state._replace(
        x=select(accept, trial, state.x),
        value=jnp.where(accept, value, state.value),
        gradient=select(accept, gradient, state.gradient),
        scale=jnp.where(learn & jnp.isfinite(ratio), ratio, state.scale),
        memory=two_loop.clear(memory, restart),
        iterations=state.iterations + accept,
    )


def _direction(state: State) -> Array:
    """Return the quasi-Newton direction of the free variables, or steepest descent."""
    x, gradient = state.x, state.gradient
    held = ((x <= state.lower) & (gradient > 0)) | ((x >= state.upper) & (gradient < 0))
    newton = -two_loop.inverse_hessian_product(
        state.memory, gradient, ~held, state.scale
    )
    slope = dot(gradient, newton)
    descends = jnp.isfinite(slope) & (slope < 0)
    return select(descends, newton, -expand(state.scale, x) * gradient)


def _status_at_start(state: State, options: Options) -> Array:
    """Return the status before the first step, int32 `[B]`."""
    zeros = two_loop.blank(state.value, jnp.int32)
    status = jnp.where(zeros >= options.max_iterations, Status.ITERATION_LIMIT, zeros)
    small = projected_gradient_norm(state) <= options.gradient_tolerance
    status = jnp.where(small, Status.GRADIENT_CONVERGED, status)
    finite = _finite(state.value, state.gradient)
    return jnp.where(finite, status, Status.NON_FINITE_START)


def _status_after_move(
    before: State, after: State, accept: Array, options: Options
) -> Array:
    """Return the status after a step, int32 `[B]`."""
    size = jnp.maximum(jnp.abs(before.value), jnp.abs(after.value))
    rounding = jnp.finfo(size.dtype).eps * size
    tolerance = jnp.maximum(options.value_tolerance * jnp.maximum(size, 1), rounding)
    ended = after.iterations >= options.max_iterations
    status = jnp.where(ended, Status.ITERATION_LIMIT, Status.RUNNING)
    stalled = accept & (before.value - after.value <= tolerance)
    status = jnp.where(stalled, Status.VALUE_CONVERGED, status)
    small = projected_gradient_norm(after) <= options.gradient_tolerance
    return jnp.where(small, Status.GRADIENT_CONVERGED, status).astype(jnp.int32)


def _shrink(rise: Array, slope: Array, finite: Array) -> Array:
    """Return the factor for a rejected step, from the parabola through the values."""
    least, most = _SHRINK_RANGE
    curved = finite & (slope < 0) & (rise > slope)
    factor = -slope / jnp.where(curved, 2 * (rise - slope), 1)
    return jnp.where(curved, jnp.clip(factor, least, most), least)


def _finite(value: Array, gradient: Array) -> Array:
    """Return whether the value and the gradient of each problem are finite."""
    return jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient), _trailing(gradient))


def _trailing(x: Array) -> tuple[int, ...]:
    """Return the axes of one problem."""
    return tuple(range(1, x.ndim))
