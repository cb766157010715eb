"""What searches for the shortest perturbation share: the best so far, and its end."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax.attacks._descent import (
    away,
    make_loss_fn,
    select,
    step_off,
    succeeded,
    succeeded_clearly,
    usable,
)
from advgan_jax.attacks._norms import LENGTHS, per_image
from advgan_jax.cpu import loops
from advgan_jax.projections import norm_l2, pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn

# The bisection from the clean image to the best one ends within 0.1 % of its length.
_NUM_HALVINGS = 10


class Shortest(NamedTuple):
    """The nearest adversarial images so far, and their distances `[B]`."""

    images: Array
    length: Array  # infinite before the first success


class Look(NamedTuple):
    """What the model says at an iterate; each is `[B]` but the gradient."""

    success: Array
    length: Array  # distance to the clean image
    loss: Array
    gradient: Array


class Walk(NamedTuple):
    """The state of a search by `descend_on_balls`."""

    step: Array
    x: Array
    radius: Array
    found: Shortest


def nothing_found(images: Array) -> Shortest:
    """Return what is known before the first look."""
    lengths = jnp.sum(images, pixel_axes(images)) * 0
    return Shortest(images, lengths + jnp.inf)


def keep_shorter(old: Shortest, x: Array, success: Array, length: Array) -> Shortest:
    """Keep `x` where it succeeds and is nearer than the best."""
    return select(success & (length < old.length), Shortest(x, length), old)


def finish(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    found: Shortest,
    *,
    targeted: bool,
) -> Array:
    """Shorten what was found by bisection; return the clean images elsewhere."""
    change = found.images - images

    def _halve(ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        logits = logits_fn(images + per_image(middle, images) * change)
        success = succeeded_clearly(logits, labels, targeted=targeted)
        return jnp.where(success, low, middle), jnp.where(success, middle, high)

    zeros = jnp.zeros_like(found.length)
    _, share = loops.repeat(_halve, (zeros, zeros + 1), _NUM_HALVINGS)
    x = select(share < 1, images + per_image(share, images) * change, found.images)
    success = succeeded(logits_fn(x), labels, targeted=targeted)
    return select(success & jnp.isfinite(found.length), x, images)


def descend_on_balls(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    norm: str,
    losses: tuple[str, str],
    first_radius: float,
    num_steps: int,
    targeted: bool,
    bounds: Bounds,
    length_of_step: Callable[[Array], Array],
    next_radius: Callable[[Walk, Look], Array],
    place: Callable[[Array, Array, Array], Array],
) -> Array:
    """Descend losses in balls that shrink after a success and else grow.

    The first of `losses` is that of the first half of the steps. `length_of_step` is a
    function of the share of the steps that are done. Then `next_radius` chooses the
    ball, at most as large as the box, and `place(x, images, radius)` puts the image
    into it.
    """
    early, late = (make_loss_fn(name, targeted=targeted) for name in losses)
    directions = away(images, bounds)
    largest = LENGTHS[norm](jnp.maximum(images - bounds[0], bounds[1] - images))

    def _total(x: Array, is_early: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = logits_fn(x)
        values = late(logits, labels)
        if losses[0] != losses[1]:
            values = jnp.where(is_early, early(logits, labels), values)
        return jnp.sum(values), (logits, values)

    def _step(walk: Walk) -> Walk:
        x = walk.x
        evaluate = jax.value_and_grad(_total, has_aux=True)
        (_, (logits, loss)), gradient = evaluate(x, 2 * walk.step < num_steps)
        success = succeeded_clearly(logits, labels, targeted=targeted)
        gradient, lost = usable(gradient, success)
        look = Look(success, LENGTHS[norm](x - images), loss, gradient)
        walk = walk._replace(found=keep_shorter(walk.found, x, success, look.length))
        radius = jnp.minimum(next_radius(walk, look), largest)
        size = norm_l2(gradient)
        length = length_of_step((walk.step / max(num_steps, 1)).astype(x.dtype))
        aside = step_off(x, directions, bounds)
        x = x - length * gradient / jnp.where(size > 0, size, 1)
        x = jnp.clip(place(x, images, per_image(radius, x)), *bounds)
        x = select(lost, aside, x)
        return Walk(walk.step + 1, x, radius, walk.found)

    found = nothing_found(images)
    start = Walk(jnp.asarray(0), images, 0 * largest + first_radius, found)
    found = loops.repeat(_step, start, num_steps).found
    return finish(logits_fn, images, labels, found, targeted=targeted)


def on_sphere(x: Array, images: Array, radius: Array) -> Array:
    """Move `x` along its distance from the images, to the L2 norm `radius`."""
    change = x - images
    size = norm_l2(change)
    return images + radius * change / jnp.where(size > 0, size, 1)


def cosine(share: Array, first: Array | float, last: Array | float) -> Array:
    """Return a number that falls from `first` to `last` along half a cosine."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * share)) / 2
