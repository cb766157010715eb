"""When an attack succeeds, and projected steepest descent on an adversarial loss."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.attacks._norms import Norm
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_Tree = TypeVar("_Tree")
# Another batch size or device rounds logits differently. Searches that stop just behind
# the decision boundary need this much more, relative to the largest logit: about ten
# units in the last place of float32.
_ROUNDING = 1e-6


def succeeded(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    """Return whether the predicted class is wrong or, when targeted, the wanted one.

    Args:
      logits: of the adversarial images, `[B, K]`.
      labels: class ids, `[B]`; wanted ones when `targeted`, else true ones.
      targeted: whether `labels` are wanted rather than true.

    Returns:
      bool `[B]`; False where a logit is not finite.
    """
    hit = jnp.argmax(logits, axis=-1) == labels
    return (hit if targeted else ~hit) & jnp.all(jnp.isfinite(logits), axis=-1)


def succeeded_clearly(
    logits: Array,
    labels: Array,
    *,
    targeted: bool = False,
    confidence: Scalar = 0.0,
) -> Array:
    """Like `succeeded`, by more than `confidence` and the rounding of a logit."""
    slack = _ROUNDING * jnp.max(jnp.abs(logits), axis=-1)
    margin = losses.logit_margin(logits, labels, targeted=targeted)
    return (margin < -(confidence + slack)) & jnp.all(jnp.isfinite(logits), axis=-1)


def per_image(values: Array) -> Array:
    """Give `[B]` values the axes of images, `[B, 1, 1, 1]`."""
    return values[:, None, None, None]


def select(mask: Array, new: _Tree, old: _Tree) -> _Tree:
    """Take the rows of `new` where `mask` `[B]` holds, else those of `old`."""

    def choose(a: Array, b: Array) -> Array:
        """Choose the rows of one array."""
        return jnp.where(mask.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


def make_loss_fn(name: str, *, targeted: bool) -> Callable[[Array, Array], Array]:
    """Return `(logits, labels) -> loss [B]`; `margin` without its floor."""
    loss = losses.adversarial_loss(name)
    # The loss keeps falling after the attack has succeeded.
    loss = losses.logit_margin if name == "margin" else loss
    return partial(loss, targeted=targeted)


def make_gradient_fn(
    logits_fn: LogitsFn, labels: Array, *, loss: str, targeted: bool
) -> Callable[[Array], Array]:
    """Return the gradient of each image's own loss; zero where it is not finite."""
    loss_fn = make_loss_fn(loss, targeted=targeted)
    gradient_fn = jax.grad(lambda x: jnp.sum(loss_fn(logits_fn(x), labels)))

    def finite_gradient_fn(x: Array) -> Array:
        """Return the gradient at `x`."""
        gradient = gradient_fn(x)
        # An attack that meets NaN returns the image it has reached.
        return jnp.where(jnp.isfinite(gradient), gradient, 0)

    return finite_gradient_fn


def derived_step(
    step_size: Scalar | None, epsilon: Scalar, num_steps: int, reach: float
) -> Scalar:
    """Return the step size; if None, the one that reaches `reach * epsilon` in all."""
    if step_size is not None:
        return step_size
    return epsilon * min(reach / max(num_steps, 1), 1.0)


def random_point(
    norm: Norm,
    key: Array | None,
    index: Array | int,
    images: Array,
    epsilon: Scalar,
    bounds,
) -> Array:
    """Draw a point in the ball around each image and in the box."""
    assert key is not None  # `@attack` has checked it
    noise = norm.sample(jax.random.fold_in(key, index), images, epsilon)
    return norm.project(images + noise, images, epsilon, bounds)


def check_restarts(num_restarts: int, random_start: bool) -> None:
    """Raise `ValueError` for restarts that would all be the same."""
    if num_restarts > 1 and not random_start:
        raise ValueError(
            f"`num_restarts={num_restarts}` needs `random_start=True`; without it all "
            "restarts are the same."
        )


def descend(
    gradient_fn: Callable[[Array], Array],
    start: Array,
    images: Array,
    norm: Norm,
    epsilon: Scalar,
    step_size: Scalar,
    num_steps: int,
    bounds: Bounds,
) -> Array:
    """Return the last iterate of steepest descent in the balls and the box."""

    def step(x: Array) -> Array:
        """Take one step."""
        direction = norm.steepest(-gradient_fn(x), x, bounds)
        return norm.project(x + step_size * direction, images, epsilon, bounds)

    return loops.repeat(step, start, num_steps)
