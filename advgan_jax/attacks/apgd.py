"""Auto-PGD: momentum, and a step size per image that halves when progress stalls.

Deviations: the random start is uniform in the ball (the released code scales the noise
to its surface). Returned is the successful iterate of least loss, where there is one,
else the iterate of least loss; of restarts likewise.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.attacks import criteria
from advgan_jax.attacks._api import attack
from advgan_jax.attacks.descent import make_loss_fn
from advgan_jax.attacks.norms import Norm, get_norm
from advgan_jax.attacks.pgd import check_restarts
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn

_MOMENTUM = 0.75
# Share of the steps that must have improved the loss for the step size to stay.
_PROGRESS = 0.75


class _Point(NamedTuple):
    """An iterate and what the model says of it."""

    images: Array
    gradient: Array
    loss: Array
    succeeded: Array


class _State(NamedTuple):
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
    labels: Array | None = None,
    *,
    key: Array | None = None,
    epsilon: float,
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

    from `eta = 2 epsilon`. At the checkpoints an image whose loss improved in less than
    three of four steps, or whose best loss and step size are what they were at the last
    checkpoint, goes back to its best iterate with half the step.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: typed; needed for a random start.
      epsilon: the radius of the ball, in pixel units of `norm`.
      num_steps: how many, in each restart.
      norm: `linf` or `l2`.
      loss: `cross_entropy`, `margin` or `dlr`.
      random_start: whether to begin anywhere in the ball instead of at its centre.
      num_restarts: random starts; each image keeps its best.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      The best iterate, within the ball and `bounds`.

    Raises:
      ValueError: for restarts without a random start.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Alg. 1 and Sec. 3.
    """
    ball = get_norm(norm, ("linf", "l2"))
    check_restarts(num_restarts, random_start)
    loss_fn = make_loss_fn(loss, targeted=targeted)

    def total_loss(x):
        logits = logits_fn(x)
        losses = loss_fn(logits, labels)
        return jnp.sum(losses), (logits, losses)

    def look(x: Array) -> _Point:
        (_, (logits, losses)), gradient = jax.value_and_grad(total_loss, has_aux=True)(
            x
        )
        succeeded = criteria.succeeded(logits, labels, targeted=targeted)
        return _Point(x, gradient, losses, succeeded)

    def run(restart: Array | int) -> _Point:
        start = images
        if random_start:
            noise = ball.sample(jax.random.fold_in(key, restart), images, epsilon)
            start = ball.project(images + noise, images, epsilon, bounds)
        return _run(look, look(start), images, ball, epsilon, num_steps, bounds)

    def again(carry):
        restart, best = carry
        other = run(restart)
        return restart + 1, _select(_is_better(other, best), other, best)

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
    epsilon: Array,
    num_steps: int,
    bounds: Bounds,
) -> _Point:
    """One run from `first`; returns the best point on its way."""
    window_at = jnp.asarray(_windows(num_steps))

    def step(state: _State) -> _State:
        x = state.now.images
        size = state.step_size[:, None, None, None]
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
            best=_select(new.loss < state.best.loss, new, state.best),
            found=_select(_is_better(new, state.found), new, state.found),
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
    """Halves step sizes at a checkpoint; `window` is 0 between checkpoints."""
    due = window > 0
    oscillates = state.num_improved < _PROGRESS * window
    stalls = ~state.was_halved & (state.best.loss >= state.loss_before)
    halve = due & (oscillates | stalls)
    return state._replace(
        now=_select(halve, state.best, state.now),
        step_size=jnp.where(halve, state.step_size / 2, state.step_size),
        num_improved=jnp.where(due, 0, state.num_improved),
        was_halved=jnp.where(due, halve, state.was_halved),
        loss_before=jnp.where(due, state.best.loss, state.loss_before),
    )


def _windows(num_steps: int) -> np.ndarray:
    """For each number of steps done: steps since the last checkpoint, if it is one."""
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
    """Success first, then the lower loss."""
    less = (new.loss < old.loss) & (new.succeeded == old.succeeded)
    return (new.succeeded & ~old.succeeded) | less


def _select(mask: Array, new: _Point, old: _Point) -> _Point:
    def choose(a, b):
        return jnp.where(mask.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)
