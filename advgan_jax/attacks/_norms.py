"""The geometry of a norm: steepest step, projection onto the ball, random point."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax import projections
from advgan_jax.checks import unknown_name
from advgan_jax.types import Array, Bounds, Scalar

_PIXELS = (1, 2, 3)
# Share of the pixels that one L1 step moves; Tramer & Boneh use the top percent.
_L1_SHARE = 0.01
# An L1 step ignores pixels with less room than this share of the box: the projection
# moves every full pixel slightly off its edge, and the step must not be spent on it.
_L1_ROOM = 1e-3


class Norm(NamedTuple):
    """The geometry of one threat model.

    Attributes:
      steepest: `(direction, x, bounds) -> step`, of norm one (zero for no direction):
        what gains most along `direction` from `x`.
      project: `(x, images, epsilon, bounds) -> x`, into the ball and the box.
      sample: `(key, images, epsilon) -> perturbation`, uniform in the ball.
    """

    steepest: Callable[[Array, Array, Bounds], Array]
    project: Callable[[Array, Array, Array | float, Bounds], Array]
    sample: Callable[[Array, Array, Array | float], Array]


def _steepest_linf(direction: Array, x: Array, bounds: Bounds) -> Array:
    """Move every pixel by one."""
    del x, bounds
    return jnp.sign(direction)


def _steepest_l2(direction: Array, x: Array, bounds: Bounds) -> Array:
    """Follow the direction."""
    del x, bounds
    norm = projections.norm_l2(direction)
    return direction / jnp.where(norm > 0, norm, 1)


def _steepest_l1(direction: Array, x: Array, bounds: Bounds) -> Array:
    """Equal shares for the pixels of largest slope that have room to move."""
    room = jnp.where(direction < 0, x - bounds[0], bounds[1] - x)
    has_room = room > _L1_ROOM * (bounds[1] - bounds[0])
    slopes = jnp.where(has_room, jnp.abs(direction), 0)
    count = max(1, round(_L1_SHARE * math.prod(x.shape[1:])))
    least = lax.top_k(slopes.reshape(x.shape[0], -1), count)[0][:, -1]
    chosen = (slopes >= least[:, None, None, None]) & (slopes > 0)
    num_chosen = jnp.sum(chosen, axis=_PIXELS, keepdims=True)
    return jnp.where(chosen, jnp.sign(direction), 0) / jnp.maximum(num_chosen, 1)


def _sample_linf(key: Array, images: Array, epsilon: Scalar) -> Array:
    """Draw each pixel by itself."""
    unit = jax.random.uniform(key, images.shape, images.dtype, -1, 1)
    return epsilon * unit


def _sample_l2(key: Array, images: Array, epsilon: Scalar) -> Array:
    """Draw a direction and a radius."""
    for_direction, for_radius = jax.random.split(key)
    direction = jax.random.normal(for_direction, images.shape, images.dtype)
    direction = direction / projections.norm_l2(direction)
    batch, *pixels = images.shape
    radius = jax.random.uniform(for_radius, (batch, 1, 1, 1), images.dtype)
    return epsilon * direction * radius ** (1 / math.prod(pixels))


def _sample_l1(key: Array, images: Array, epsilon: Scalar) -> Array:
    # Exponential variates divided by their sum are uniform in a simplex; the extra one
    # is the distance from the surface.
    """Draw sizes from a simplex, and signs."""
    for_size, for_sign, for_rest = jax.random.split(key, 3)
    sizes = jax.random.exponential(for_size, images.shape, images.dtype)
    rest = jax.random.exponential(for_rest, (images.shape[0], 1, 1, 1), images.dtype)
    signs = jax.random.rademacher(for_sign, images.shape, images.dtype)
    return epsilon * signs * sizes / (jnp.sum(sizes, _PIXELS, keepdims=True) + rest)


NORMS: dict[str, Norm] = {
    "linf": Norm(_steepest_linf, projections.project_linf, _sample_linf),
    "l2": Norm(_steepest_l2, projections.project_l2, _sample_l2),
    "l1": Norm(_steepest_l1, projections.project_l1, _sample_l1),
}


def get_norm(name: str, known: tuple[str, ...] = tuple(NORMS)) -> Norm:
    """Return the norm of that name; `ValueError` if the attack does not know it."""
    if name not in known:
        raise unknown_name("norm", name, known)
    return NORMS[name]
