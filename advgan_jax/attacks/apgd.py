"""Auto-PGD: momentum, and a step size per image that halves when progress stalls.

Deviations: the random start is uniform in the ball (the released code scales the noise
to its surface). The attack returns the successful iterate of least loss where there is
one, else the iterate of least loss; it chooses among restarts in the same way.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.attacks import _descent
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import per_image, select
from advgan_jax.attacks._norms import Norm, get_norm
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_MOMENTUM = 0.75
# Share of the steps that must have improved the loss for the step size to stay.
_PROGRESS = 0.75


class _Point(NamedTuple):
    """An iterate, and the model's judgement of it."""

    images: Array
    gradient: Array
    loss: Array
    succeeded: Array


class _State(NamedTuple):
    """The state of one run."""

    num_done: Array
    now: _Point
    previous: Array
    best: _Point  # of least loss, where restarts begin
    found: _Point  # of least loss among the successful ones, if any
    step_size: Array
    num_improved: Array  # since the last checkpoint, like the next two
    was_halved: Array
    loss_before: Array


@attack(
    static=("num_steps", "norm", "loss", "random_start", "num_restarts"),
    random="random_start",
)
def apgd(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_steps: int = 100,
    norm: str = "linf",
    loss: str = "cross_entropy",
    random_start: bool = True,
    num_restarts: int = 1,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Auto-PGD, which needs no step size.

    .. math:: z_{k+1} = \Pi(x_k + \eta_k\,\mathrm{steepest}(\nabla_x J(x_k))), \qquad
      x_{k+1} = \Pi(x_k + \alpha (z_{k+1} - x_k) + (1 - \alpha)(x_k - x_{k-1}))

    from `eta = 2 epsilon`. At a checkpoint an image returns to its best iterate with
    half the step if its loss improved in less than three of four steps, or if neither
    its best loss nor its step size has changed since the last checkpoint.

    Args:
      norm: `linf` or `l2`.

    Returns:
      The best iterate, within the ball and `bounds`.

    Raises:
      ValueError: for restarts without a random start.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Alg. 1 and Sec. 3.
    """
    ball = get_norm(norm, ("linf", "l2"))
    _descent.check_restarts(num_restarts, random_start)
    loss_fn = _descent.make_loss_fn(loss, targeted=targeted)

    def total_loss(x):
        """Return the sum, whose gradient holds that of each image."""
        logits = logits_fn(x)
        losses = loss_fn(logits, labels)
        return jnp.sum(losses), (logits, losses)

    def look(x: Array) -> _Point:
        """Evaluate the model at `x`."""
        (_, (logits, losses)), gradient = jax.value_and_grad(total_loss, has_aux=True)(
            x
        )
        success = _descent.succeeded(logits, labels, targeted=targeted)
        return _Point(x, gradient, losses, success)

    def run(restart: Array | int) -> _Point:
        """Run from the start of one restart."""
        start = images
        if random_start:
            start = _descent.random_point(ball, key, restart, images, epsilon, bounds)
        return _run(look, look(start), images, ball, epsilon, num_steps, bounds)

    def again(carry):
        """Keep the better of the best so far and another restart."""
        restart, best = carry
        other = run(restart)
        return restart + 1, select(_is_better(other, best), other, best)

    if num_restarts == 1:
        return run(0).images
    nothing = jnp.full_like(images[:, 0, 0, 0], jnp.inf)
    worst = _Point(images, jnp.zeros_like(images), nothing, nothing < 0)
    return loops.repeat(again, (jnp.asarray(0), worst), num_restarts)[1].images


def _run(
    look: Callable[[Array], _Point],
    first: _Point,
    images: Array,
    ball: Norm,
    epsilon: Scalar,
    num_steps: int,
    bounds: Bounds,
) -> _Point:
    """Run from `first` and return the best point met."""
    window_at = jnp.asarray(_windows(num_steps))

    def step(state: _State) -> _State:
        """Take one step."""
        x = state.now.images
        size = per_image(state.step_size)
        slope = ball.steepest(-state.now.gradient, x, bounds)
        z = ball.project(x + size * slope, images, epsilon, bounds)
        # There is no velocity yet in the first step.
        weight = jnp.where(state.num_done == 0, 1.0, _MOMENTUM).astype(x.dtype)
        x_new = x + weight * (z - x) + (1 - weight) * (x - state.previous)
        new = look(ball.project(x_new, images, epsilon, bounds))
        state = state._replace(
            num_done=state.num_done + 1,
            now=new,
            previous=x,
            best=select(new.loss < state.best.loss, new, state.best),
            found=select(_is_better(new, state.found), new, state.found),
            num_improved=state.num_improved + (new.loss < state.now.loss),
        )
        return _check(state, window_at[state.num_done])

    zeros = jnp.zeros_like(first.loss)
    state = _State(
        num_done=jnp.asarray(0),
        now=first,
        previous=first.images,
        best=first,
        found=first,
        step_size=zeros + 2 * epsilon,
        num_improved=zeros.astype(jnp.int32),
        was_halved=zeros > 0,
        loss_before=first.loss,
    )
    return loops.repeat(step, state, num_steps).found


def _check(state: _State, window: Array) -> _State:
    """Halve step sizes at a checkpoint; `window` is 0 between checkpoints."""
    due = window > 0
    oscillates = state.num_improved < _PROGRESS * window
    stalls = ~state.was_halved & (state.best.loss >= state.loss_before)
    halve = due & (oscillates | stalls)
    return state._replace(
        now=select(halve, state.best, state.now),
        step_size=jnp.where(halve, state.step_size / 2, state.step_size),
        num_improved=jnp.where(due, 0, state.num_improved),
        was_halved=jnp.where(due, halve, state.was_halved),
        loss_before=jnp.where(due, state.best.loss, state.loss_before),
    )


def _windows(num_steps: int) -> np.ndarray:
    """Return, by steps done, those since the last checkpoint; 0 between checkpoints."""
    windows = np.zeros(num_steps + 1, np.int32)
    last, percent, width = 0, 22, 22
    while (checkpoint := -(-percent * num_steps // 100)) < num_steps:
        if checkpoint > last:  # in short runs several fall on one step
            windows[checkpoint] = checkpoint - last
        last = checkpoint
        width = max(width - 3, 6)
        percent += width
    return windows


def _is_better(new: _Point, old: _Point) -> Array:
    """Prefer success, then the lower loss."""
    less = (new.loss < old.loss) & (new.succeeded == old.succeeded)
    return (new.succeeded & ~old.succeeded) | less
