"""Criteria of success, and projected steepest descent on an adversarial loss."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from advgan_jax import losses
from advgan_jax.attacks._norms import Ball, per_image
from advgan_jax.cpu import loops
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_Tree = TypeVar("_Tree")
# Another batch size or device rounds logits differently. Searches that stop just behind
# the decision boundary need this much more, relative to the largest logit: about ten
# units in the last place of float32. A class may be masked by a huge logit, which is
# none of the model's rounding: no more counts than ten times the two compared logits.
_ROUNDING = 1e-6
_MOST = 10.0
# How far an attack moves off a point without a usable gradient, in widths of the box:
# a quarter of an 8-bit grey level.
STEP_OFF = 1e-3
# Folded into keys for the direction; restarts fold in their number.
_OWN_DRAW = 2**32 - 1


def succeeded(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    """Return whether the predicted class is wrong or, when targeted, the wanted one.

    Args:
      logits: of the adversarial images, `[B, K]`.
      labels: class ids, `[B]`; wanted ones when `targeted`, else true ones.
      targeted: whether `labels` are wanted rather than true.

    Returns:
      bool `[B]`; False where a logit is NaN or infinite. Some may be `-inf`, which
      masks a class.
    """
    hit = jnp.argmax(logits, axis=-1) == labels
    return (hit if targeted else ~hit) & _valid(logits)


def _valid(logits: Array) -> Array:
    """Return where no logit is NaN or `inf`, and one is not `-inf`, bool `[B]`."""
    return jnp.isfinite(jnp.max(logits, axis=-1))


def succeeded_clearly(
    logits: Array, labels: Array, *, targeted: bool = False, confidence: Scalar = 0.0
) -> Array:
    """Return whether the margin exceeds `confidence` and the rounding of a logit."""
    margin = losses.logit_margin(logits, labels, targeted=targeted)
    return (margin < -(confidence + rounding(logits, labels))) & _valid(logits)


def rounding(logits: Array, labels: Array) -> Array:
    """Return by how much the margin of another batch size or device may differ."""
    compared = losses.label_and_best_other(logits, labels)
    sizes = (jnp.where(jnp.isfinite(z), jnp.abs(z), 0) for z in compared)
    largest = jnp.max(jnp.abs(logits), axis=-1)
    return _ROUNDING * jnp.minimum(largest, _MOST * jnp.maximum(*sizes))


def select(mask: Array, new: _Tree, old: _Tree) -> _Tree:
    """Take the rows of `new` where `mask` `[B]` holds, else those of `old`."""

    def _choose(a: Array, b: Array) -> Array:
        return jnp.where(per_image(mask, a), a, b)

    return jax.tree.map(_choose, new, old)


def make_loss_fn(name: str, *, targeted: bool) -> Callable[[Array, Array], Array]:
    """Return `(logits, labels) -> loss [B]`; `margin` without its floor."""
    loss = losses.adversarial_loss(name)
    # The loss keeps falling after the attack has succeeded.
    loss = losses.logit_margin if name == "margin" else loss
    return partial(loss, targeted=targeted)


def away(images: Array, bounds: Bounds, key: Array | None = None) -> Array:
    """Return directions to step off a point without a usable gradient.

    The normal noise of one image, the same for all, points into the box at every edge.
    Without a key it is always the same.
    """
    shape, dtype = images.shape[1:], images.dtype
    if key is None:
        noise = jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    else:
        noise = jax.random.normal(jax.random.fold_in(key, _OWN_DRAW), shape, dtype)
    inward = jnp.where(images >= bounds[1], -jnp.abs(noise), noise)
    return jnp.where(images <= bounds[0], jnp.abs(noise), inward)


def step_off(x: Array, direction: Array, bounds: Bounds) -> Array:
    """Return points of the box next to `x`, in a direction of `away`."""
    return jnp.clip(x + STEP_OFF * (bounds[1] - bounds[0]) * direction, *bounds)


def usable(gradient: Array, success: Array) -> tuple[Array, Array]:
    """Return a gradient with 0 for what is not finite; whether it is useless, `[B]`.

    It is useless if it has only zeros and the attack has not succeeded.
    """
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
    return gradient, ~success & ~jnp.any(gradient != 0, axis=pixel_axes(gradient))


def make_gradient_fn(
    logits_fn: LogitsFn,
    labels: Array,
    directions: Array,
    *,
    loss: str,
    targeted: bool,
) -> Callable[[Array], tuple[Array, Array]]:
    """Return a function of `x` to the gradient of each image's own loss.

    A useless gradient (see `usable`) is replaced by `-directions`, so that a descent
    step moves off the point. The second result marks these images, bool `[B]`.
    """
    loss_fn = make_loss_fn(loss, targeted=targeted)

    def _total(x: Array) -> tuple[Array, Array]:
        logits = logits_fn(x)
        success = succeeded(logits, labels, targeted=targeted)
        return jnp.sum(loss_fn(logits, labels)), success

    def _gradient_fn(x: Array) -> tuple[Array, Array]:
        gradient, lost = usable(*jax.grad(_total, has_aux=True)(x))
        return select(lost, -directions, gradient), lost

    return _gradient_fn


def gradient_nearby(
    gradient_fn: Callable[[Array], tuple[Array, Array]],
    images: Array,
    directions: Array,
    bounds: Bounds,
) -> tuple[Array, Array]:
    """Return where each image has a usable gradient, and that gradient.

    The point is the image itself or, where it has none, the next one of `step_off`.
    """

    def _look(state: tuple[Array, Array, Array, Array]) -> Any:
        tries, x, _, lost = state
        x = select(lost & (tries > 0), step_off(x, directions, bounds), x)
        return tries + 1, x, *gradient_fn(x)

    # A loop compiles the gradient once, and hardly ever computes it twice.
    start = (
        jnp.asarray(0),
        images,
        images,
        jnp.sum(images, pixel_axes(images)) < jnp.inf,
    )
    _, x, gradient, _ = lax.while_loop(
        lambda state: (state[0] < 2) & jnp.any(state[3]), _look, start
    )
    return x, gradient


def derived_step(
    step_size: Scalar | None, epsilon: Scalar, num_steps: int, reach: float
) -> Scalar:
    """Return the step size; if None, derive it: all steps sum to `reach * epsilon`."""
    derived = epsilon * min(reach / max(num_steps, 1), 1.0)
    return derived if step_size is None else step_size


def descend(
    gradient_fn: Callable[[Array], tuple[Array, Array]],
    start: Array,
    ball: Ball,
    step_size: Scalar,
    num_steps: int,
) -> Array:
    """Return the last iterate of projected steepest descent."""
    return loops.repeat(
        lambda x: ball.step(x, -gradient_fn(x)[0], step_size), start, num_steps
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


def check_restarts(num_restarts: int, random_start: bool) -> None:
    """Raise `ValueError` for restarts that would be the same."""
    if num_restarts > 1 and not random_start:
        raise ValueError(
            f"`num_restarts={num_restarts}` needs `random_start=True`; without it all "
            "restarts are the same."
        )


def best_restart(
    run: Callable[[Array | int], Candidate],
    images: Array,
    num_restarts: int,
    random_start: bool,
    keep: Callable[[Candidate, Candidate], Candidate] = keep_first,
) -> Array:
    """Return for each image the result of its best restart, chosen by `keep`."""
    check_restarts(num_restarts, random_start)
    if num_restarts == 1:
        return run(0).images

    def _again(carry: tuple[Array, Candidate]) -> tuple[Array, Candidate]:
        restart, best = carry
        return restart + 1, keep(best, run(restart))

    nothing = jnp.full_like(jnp.sum(images, pixel_axes(images)), jnp.inf)
    start = (jnp.asarray(0), Candidate(images, nothing < 0, nothing))
    return loops.repeat(_again, start, num_restarts)[1].images
