r"""Minimise many independent problems in their boxes with one batched L-BFGS.

Problem `i` minimises `f_i(x_i)` over `l_i <= x_i <= u_i`, with its own curvature pairs,
line search and stopping test. A step is *one* evaluation of all problems, and no
problem waits for the line search of another.

The direction is the two-metric projection: the L-BFGS inverse Hessian, restricted to
the variables that their gradient does not hold at a bound. The line search backtracks
along the projected path `clip(x + t d, l, u)` until

.. math:: f(x_t) \le f(x) + 10^{-4} \min(g^T (x_t - x), 0),

with steps from safeguarded quadratic interpolation. After a failed search it drops the
memory and tries steepest descent. All evaluated points lie in the box, and values never
increase.

Deviations from L-BFGS-B (Byrd, Lu, Nocedal & Zhu, 1995): there is no generalised Cauchy
point, because its search over breakpoints is sequential in the variables. There is no
strong Wolfe search; pairs without curvature are skipped instead.

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

from advgan_jax.optimizers import box_problem, box_step
from advgan_jax.optimizers.box_problem import BoxLBFGSResult, Options, State, Status
from advgan_jax.types import Array

ValueAndGrad = Callable[[Array], tuple[Array, Array]]


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
    """Minimise a batch of independent functions, each in its box.

    Call it within `jax.jit`: each eager call compiles its loop again.

    Args:
      value_and_grad: `x [B, ...] -> (values [B], gradients [B, ...])`, where row `i`
        depends on `x[i]` alone: differentiate the sum of the values. A value or
        gradient that is not finite counts as a failed trial.
      x0: start, `[B, ...]`, float32 or float64; clipped to the box.
      lower: lower bounds, broadcastable to `x0`; may be `-inf`.
      upper: upper bounds, broadcastable to `x0`; may be `inf`.
      max_iterations: see `Options`.
      memory: see `Options`.
      gradient_tolerance: see `Options`, in units of `f / x`.
      value_tolerance: see `Options`.
      max_line_search: see `Options`.

    Returns:
      A `BoxLBFGSResult`; no value is above that of the start.

    Raises:
      TypeError: if `x0` is not float32 or float64, or `value_and_grad` returns
        another dtype.
      ValueError: if a shape or an option is wrong, or `lower > upper` anywhere.
    """
    options = Options(
        max_iterations, memory, gradient_tolerance, value_tolerance, max_line_search
    )
    state = lax.while_loop(
        lambda state: jnp.any(box_step.running(state)),
        lambda state: step(value_and_grad, state, options),
        init(value_and_grad, x0, lower, upper, options),
    )
    return BoxLBFGSResult(
        state.x,
        state.value,
        box_step.projected_gradient_norm(state),
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
    """Evaluate the start and return the state; see `minimize` for the arguments."""
    options = Options() if options is None else options
    box_problem.check_options(options)
    x, lower, upper = box_problem.check_problem(x0, lower, upper)
    value, gradient = value_and_grad(x)
    box_problem.check_value_and_grad(x, value, gradient)
    state = box_step.begin(x, value, gradient, lower, upper, options)
    return state._replace(num_evaluations=state.num_evaluations + 1)


def converged(state: State | BoxLBFGSResult) -> Array:
    """Return which problems stopped because they met a tolerance, bool `[B]`."""
    return (state.status == Status.GRADIENT_CONVERGED) | (
        state.status == Status.VALUE_CONVERGED
    )


def step(value_and_grad: ValueAndGrad, state: State, options: Options) -> State:
    """Evaluate one trial point of each running problem; `options` as in `init`."""
    trial = box_step.propose(state)
    return box_step.update(state, trial, *value_and_grad(trial), options)
