"""Projected steepest descent on an adversarial loss, which most attacks build on."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.attacks import criteria
from advgan_jax.attacks.norms import Norm
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn


def make_loss_fn(name: str, *, targeted: bool) -> Callable[[Array, Array], Array]:
    """A loss that goes on falling after the attack has succeeded.

    Args:
      name: `cross_entropy`, `margin` (without its floor) or `dlr`.
      targeted: whether labels are wanted classes.

    Returns:
      `(logits, labels) -> loss [B]`, small where the attack succeeds.
    """
    loss = losses.adversarial_loss(name)
    loss = criteria.margin if name == "margin" else loss
    return partial(loss, targeted=targeted)


def make_gradient_fn(
    logits_fn: LogitsFn, labels: Array, *, loss: str, targeted: bool
) -> Callable[[Array], Array]:
    """The gradient of each image's own loss; zero where it is not finite."""
    loss_fn = make_loss_fn(loss, targeted=targeted)
    gradient_fn = jax.grad(lambda x: jnp.sum(loss_fn(logits_fn(x), labels)))

    def finite_gradient_fn(x: Array) -> Array:
        gradient = gradient_fn(x)
        # An attack that has met NaN returns its image as good as it got.
        return jnp.where(jnp.isfinite(gradient), gradient, 0)

    return finite_gradient_fn


def derived_step(
    step_size: Array | None, epsilon: Array, num_steps: int, reach: float
) -> Array:
    """The step size, or when None the one that gets `reach * epsilon` far in all."""
    if step_size is not None:
        return step_size
    return epsilon * min(reach / max(num_steps, 1), 1.0)


def descend(
    gradient_fn: Callable[[Array], Array],
    start: Array,
    images: Array,
    norm: Norm,
    epsilon: Array,
    step_size: Array,
    num_steps: int,
    bounds: Bounds,
) -> Array:
    """Steepest descent from `start` within the ball around `images` and the box.

    Args:
      gradient_fn: of the loss to bring down.
      start: the first iterate, `[B, H, W, C]`.
      images: the centres of the balls.
      norm: the geometry of the ball and of the steps.
      epsilon: its radius.
      step_size: the norm of a step.
      num_steps: how many.
      bounds: the least and the greatest pixel value.

    Returns:
      The last iterate.
    """

    def step(x: Array) -> Array:
        direction = norm.steepest(-gradient_fn(x), x, bounds)
        return norm.project(x + step_size * direction, images, epsilon, bounds)

    return loops.repeat(step, start, num_steps)
