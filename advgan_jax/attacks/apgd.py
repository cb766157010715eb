"""Auto-PGD: momentum, and a step size per image that halves when progress stalls.

Deviations: the random start is uniform in the ball (the released code scales the noise
to its surface). From all restarts the attack returns the successful iterate of least
loss; if none succeeded, the iterate of least loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.attacks import _descent
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import Candidate, per_image, select
from advgan_jax.attacks._norms import Ball, get_norm
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_MOMENTUM = 0.75
# Share of the steps that must have improved the loss for the step size to stay.
_PROGRESS = 0.75


class _Point(NamedTuple):
    """An iterate with its success and loss, and its gradient."""

    candidate: Candidate
    gradient: Array


class _State(NamedTuple):
    """The state of one run."""

    num_done: Array  # steps
    now: _Point
    previous: Array
    best: _Point  # of least loss, where restarts begin
    found: Candidate  # of least loss among the successful ones, if any
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

    The step size starts at `eta = 2 epsilon`. At a checkpoint it halves, and the image
    returns to its best iterate, in two cases: the loss has improved in less than three
    of four steps; or neither best loss nor step size has changed since the last one.

    Args:
      norm: `linf` or `l2`.

    Returns:
      The best iterate, within the ball and `bounds`.

    Raises:
      ValueError: for restarts without a random start.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Alg. 1 and Sec. 3.
    """
    ball = Ball(get_norm(norm, ("linf", "l2")), images, epsilon, bounds)
    loss_fn = _descent.make_loss_fn(loss, targeted=targeted)

    def _total_loss(x: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = logits_fn(x)
        losses = loss_fn(logits, labels)
        return jnp.sum(losses), (logits, losses)

    def _look(x: Array) -> _Point:
        evaluate = jax.value_and_grad(_total_loss, has_aux=True)
        (_, (logits, losses)), gradient = evaluate(x)
        success = _descent.succeeded(logits, labels, targeted=targeted)
        return _Point(Candidate(x, success, losses), gradient)

    def _restart(index: Array | int) -> Candidate:
        start = ball.random_point(key, index) if random_start else images
        return _run(_look, start, ball, num_steps)

    return _descent.best_restart(
        _restart, images, num_restarts, random_start, _keep_better
    )


def _run(
    look: Callable[[Array], _Point], start: Array, ball: Ball, num_steps: int
) -> Candidate:
    """Run from `start` and return the best iterate."""
    first = look(start)
    loss = first.candidate.loss
    window_at = jnp.asarray(_windows(num_steps))

    def _step(state: _State) -> _State:
        now = state.now.candidate
        x = now.images
        z = ball.step(x, -state.now.gradient, per_image(state.step_size))
        # There is no velocity yet in the first step.
        weight = jnp.where(state.num_done == 0, 1.0, _MOMENTUM).astype(x.dtype)
        x_new = x + weight * (z - x) + (1 - weight) * (x - state.previous)
        point = look(ball.project(x_new))
        new = point.candidate
        state = state._replace(
            num_done=state.num_done + 1,
            now=point,
            previous=x,
            best=select(new.loss < state.best.candidate.loss, point, state.best),
            found=_keep_better(state.found, new),
            num_improved=state.num_improved + (new.loss < now.loss),
        )
        return _adapt_step_size(state, window_at[state.num_done])

    zeros = jnp.zeros_like(loss)
    state = _State(
        num_done=jnp.asarray(0),
        now=first,
        previous=start,
        best=first,
        found=first.candidate,
        step_size=zeros + 2 * ball.epsilon,
        num_improved=zeros.astype(jnp.int32),
        was_halved=zeros > 0,
        loss_before=loss,
    )
    return loops.repeat(_step, state, num_steps).found


def _adapt_step_size(state: _State, window: Array) -> _State:
    """Halve step sizes at a checkpoint; `window` is 0 between checkpoints."""
    due = window > 0
    least = state.best.candidate.loss
    oscillates = state.num_improved < _PROGRESS * window
    stalls = ~state.was_halved & (least >= state.loss_before)
    halve = due & (oscillates | stalls)
    return state._replace(
        now=select(halve, state.best, state.now),
        step_size=jnp.where(halve, state.step_size / 2, state.step_size),
        num_improved=jnp.where(due, 0, state.num_improved),
        was_halved=jnp.where(due, halve, state.was_halved),
        loss_before=jnp.where(due, least, state.loss_before),
    )


def _windows(num_steps: int) -> np.ndarray:
    """Return for each step the steps since the last checkpoint, 0 if it is none."""
    windows = np.zeros(num_steps + 1, np.int32)
    last, percent, width = 0, 22, 22
    while (checkpoint := -(-percent * num_steps // 100)) < num_steps:
        if checkpoint > last:  # in short runs several fall on one step
            windows[checkpoint] = checkpoint - last
        last = checkpoint
        width = max(width - 3, 6)
        percent += width
    return windows


def _keep_better(old: Candidate, new: Candidate) -> Candidate:
    """Prefer success, then the lower loss."""
    less = (new.loss < old.loss) & (new.succeeded == old.succeeded)
    return select((new.succeeded & ~old.succeeded) | less, new, old)
