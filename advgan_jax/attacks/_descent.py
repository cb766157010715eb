"""Criteria of success, and projected steepest descent on an adversarial loss."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.attacks._norms import Ball
from advgan_jax.cpu import loops
from advgan_jax.types import Array, LogitsFn, Scalar

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
    logits: Array, labels: Array, *, targeted: bool = False, confidence: Scalar = 0.0
) -> Array:
    """Return whether the margin exceeds `confidence` and the rounding of a logit."""
    slack = _ROUNDING * jnp.max(jnp.abs(logits), axis=-1)
    margin = losses.logit_margin(logits, labels, targeted=targeted)
    return (margin < -(confidence + slack)) & jnp.all(jnp.isfinite(logits), axis=-1)


def per_image(values: Array) -> Array:
    """Give `[B]` values the axes of images, `[B, 1, 1, 1]`."""
    return values[:, None, None, None]


def select(mask: Array, new: _Tree, old: _Tree) -> _Tree:
    """Take the rows of `new` where `mask` `[B]` holds, else those of `old`."""

    def _choose(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(_choose, new, old)


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

    def _finite_gradient_fn(x: Array) -> Array:
        gradient = gradient_fn(x)
        # An attack that meets NaN returns the image it has reached.
        return jnp.where(jnp.isfinite(gradient), gradient, 0)

    return _finite_gradient_fn


def derived_step(
    step_size: Scalar | None, epsilon: Scalar, num_steps: int, reach: float
) -> Scalar:
    """Return the step size; if None, derive it: all steps sum to `reach * epsilon`."""
    derived = epsilon * min(reach / max(num_steps, 1), 1.0)
    return derived if step_size is None else step_size


def descend(
    gradient_fn: Callable[[Array], Array],
    start: Array,
    ball: Ball,
    step_size: Scalar,
    num_steps: int,
) -> Array:
    """Return the last iterate of projected steepest descent."""
    return loops.repeat(
        lambda x: ball.step(x, -gradient_fn(x), step_size), start, num_steps
    )


class Candidate(NamedTuple):
    """Images of a batch of attacks, with the success and the loss of each, `[B]`."""

    images: Array
    succeeded: Array
    loss: Array


def keep_first(best: Candidate, new: Candidate) -> Candidate:
    """Keep each image that succeeds first; until then the one of least loss."""
    better = ~best.succeeded & (new.succeeded | (new.loss < best.loss))
    return select(better, new, best)


def best_restart(
    run: Callable[[Array | int], Candidate],
    images: Array,
    num_restarts: int,
    random_start: bool,
    keep: Callable[[Candidate, Candidate], Candidate] = keep_first,
) -> Array:
    """Return for each image the result of its best restart, chosen by `keep`."""
    if num_restarts == 1:
        return run(0).images
    if not random_start:
        raise ValueError(
            f"`num_restarts={num_restarts}` needs `random_start=True`; without it all "
            "restarts are the same."
        )

    def _again(carry: tuple[Array, Candidate]) -> tuple[Array, Candidate]:
        restart, best = carry
        return restart + 1, keep(best, run(restart))

    nothing = jnp.full_like(images[:, 0, 0, 0], jnp.inf)
    start = (jnp.asarray(0), Candidate(images, nothing < 0, nothing))
    return loops.repeat(_again, start, num_restarts)[1].images
