"""Projected gradient descent from random starts, in L-infinity, L2 and L1.

Deviations: the best of several restarts is the first that succeeds, else the one of
least loss, judged by the model on the very images returned. In L1 the iterate is
projected onto the ball and the box at once (Croce & Hein, 2021) and a step moves one
percent of the pixels, among those that have room (Tramer & Boneh, 2019).
"""

import jax
import jax.numpy as jnp

from advgan_jax.attacks import criteria
from advgan_jax.attacks._api import attack
from advgan_jax.attacks.descent import (
    derived_step,
    descend,
    make_gradient_fn,
    make_loss_fn,
)
from advgan_jax.attacks.norms import get_norm
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn


@attack(
    static=("num_steps", "norm", "loss", "random_start", "num_restarts"),
    random="random_start",
)
def pgd(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 40,
    norm: str = "linf",
    loss: str = "cross_entropy",
    random_start: bool = True,
    num_restarts: int = 1,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Projected gradient descent.

    .. math:: x_0 \sim U(B_\epsilon(x)), \qquad
      x_{k+1} = \Pi(x_k + \alpha\,\mathrm{steepest}(\nabla_x J(x_k, y)))

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: typed; needed for a random start.
      epsilon: the radius of the ball, in pixel units of `norm`.
      step_size: `alpha`, in the same unit; None: `2.5 epsilon / num_steps`, at most
        epsilon, so that the far side of the ball is within reach. (Madry et al. take
        0.01 for epsilon 0.3 and 40 steps.)
      num_steps: how many, in each restart.
      norm: `linf`, `l2` or `l1`.
      loss: `cross_entropy`, `margin` or `dlr`.
      random_start: whether to begin anywhere in the ball instead of at its centre.
      num_restarts: random starts; each image keeps its best.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      The last iterate of the best restart, within the ball and `bounds`.

    Raises:
      ValueError: for restarts without a random start, or `step_size > epsilon`.

    References:
      Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Sec. 2.1;
      Tramer & Boneh, 2019 (https://arxiv.org/abs/1904.13000), App. A, for L1.
    """
    ball = get_norm(norm)
    gradient_fn = make_gradient_fn(logits_fn, labels, loss=loss, targeted=targeted)
    step_size = derived_step(step_size, epsilon, num_steps, 2.5)

    def run(restart: Array | int) -> Array:
        start = images
        if random_start:
            noise = ball.sample(jax.random.fold_in(key, restart), images, epsilon)
            start = ball.project(images + noise, images, epsilon, bounds)
        return descend(
            gradient_fn, start, images, ball, epsilon, step_size, num_steps, bounds
        )

    if num_restarts == 1:
        return run(0)
    check_restarts(num_restarts, random_start)
    loss_fn = make_loss_fn(loss, targeted=targeted)

    def judge(x: Array) -> tuple[Array, Array]:
        logits = logits_fn(x)
        succeeded = criteria.succeeded(logits, labels, targeted=targeted)
        return succeeded, loss_fn(logits, labels)

    def again(carry):
        restart, best, best_succeeded, best_loss = carry
        x = run(restart)
        succeeded, value = judge(x)
        better = ~best_succeeded & (succeeded | (value < best_loss))
        best = jnp.where(better[:, None, None, None], x, best)
        best_loss = jnp.where(better, value, best_loss)
        return restart + 1, best, best_succeeded | succeeded, best_loss

    nothing = jnp.full_like(images[:, 0, 0, 0], jnp.inf)
    carry = (jnp.asarray(0), images, nothing < 0, nothing)
    return loops.repeat(again, carry, num_restarts)[1]


def check_restarts(num_restarts: int, random_start: bool) -> None:
    """Raises `ValueError` for restarts that would all be the same."""
    if num_restarts > 1 and not random_start:
        raise ValueError(
            f"`num_restarts={num_restarts}` needs `random_start=True`; without it all "
            "restarts are the same."
        )
