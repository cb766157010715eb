"""The geometry of the norms, and the ball around each image."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax import projections
from advgan_jax.checks import unknown_name
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, Scalar

# Share of the pixels that one L1 step moves; Tramer & Boneh use the top percent.
_L1_SHARE = 0.01
# An L1 step ignores pixels with less room than this share of the box. The projection
# moves every pixel slightly off the edge of the box, which is no room for a step.
_L1_ROOM = 1e-3


def per_image(values: Array, images: Array) -> Array:
    """Give `[B]` values the axes of `images`, `[B, 1, ...]`."""
    return values.reshape(values.shape + (1,) * (images.ndim - 1))


class Norm(NamedTuple):
    """The geometry of one norm.

    Attributes:
      steepest: `(direction, x, bounds) -> step`: the unit step from `x` that increases
        the inner product with `direction` most; zero where `direction` is.
      project: `(x, images, epsilon, bounds) -> x`, into the ball and the box.
      sample: `(key, images, epsilon) -> perturbation`, uniform in the ball.
    """

    steepest: Callable[[Array, Array, Bounds], Array]
    project: Callable[[Array, Array, Array | float, Bounds], Array]
    sample: Callable[[Array, Array, Array | float], Array]


def _steepest_linf(direction: Array, _x: Array, _bounds: Bounds) -> Array:
    """Move every pixel by one, along the sign of `direction`."""
    return jnp.sign(direction)


def _steepest_l2(direction: Array, _x: Array, _bounds: Bounds) -> Array:
    """Move along `direction`."""
    norm = projections.norm_l2(direction)
    return direction / jnp.where(norm > 0, norm, 1)


def _steepest_l1(direction: Array, x: Array, bounds: Bounds) -> Array:
    """Split the step equally among the pixels of largest gradient that can move."""
    room = jnp.where(direction < 0, x - bounds[0], bounds[1] - x)
    has_room = room > _L1_ROOM * (bounds[1] - bounds[0])
    slopes = jnp.where(has_room, jnp.abs(direction), 0)
    count = max(1, round(_L1_SHARE * math.prod(x.shape[1:])))
    least = lax.top_k(slopes.reshape(x.shape[0], -1), count)[0][:, -1]
    chosen = (slopes >= per_image(least, x)) & (slopes > 0)
    num_chosen = jnp.sum(chosen, axis=pixel_axes(x), keepdims=True)
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
    radius = jax.random.uniform(for_radius, (batch,), images.dtype)
    radius = per_image(radius ** (1 / math.prod(pixels)), images)
    return epsilon * direction * radius


def _sample_l1(key: Array, images: Array, epsilon: Scalar) -> Array:
    """Draw sizes from a simplex, and signs."""
    # Exponential variates divided by their sum are uniform in a simplex; the extra one
    # is the distance from the surface.
    for_size, for_sign, for_rest = jax.random.split(key, 3)
    sizes = jax.random.exponential(for_size, images.shape, images.dtype)
    rest = jax.random.exponential(for_rest, images.shape[:1], images.dtype)
    signs = jax.random.rademacher(for_sign, images.shape, images.dtype)
    total = jnp.sum(sizes, pixel_axes(images)) + rest
    return epsilon * signs * sizes / per_image(total, images)


NORMS: dict[str, Norm] = {
    "linf": Norm(_steepest_linf, projections.project_linf, _sample_linf),
    "l2": Norm(_steepest_l2, projections.project_l2, _sample_l2),
    "l1": Norm(_steepest_l1, projections.project_l1, _sample_l1),
}


def _largest(change: Array) -> Array:
    """Return the L-infinity norm."""
    return jnp.max(jnp.abs(change), axis=pixel_axes(change), initial=0)


# From the changes of images to their norms, `[B]`.
LENGTHS: dict[str, Callable[[Array], Array]] = {
    "linf": _largest,
    "l2": lambda change: projections.norm_l2(change).reshape(len(change)),
    "l1": lambda change: jnp.sum(jnp.abs(change), axis=pixel_axes(change)),
}
# The norm of a gradient that says how fast a step of norm 1 changes the loss.
DUALS = {"linf": "l1", "l2": "l2", "l1": "linf"}


class Ball(NamedTuple):
    """The allowed images: a ball around each of `images`, within the box `bounds`."""

    norm: Norm
    images: Array
    epsilon: Scalar
    bounds: Bounds

    def project(self, x: Array) -> Array:
        """Project `x` onto the ball and the box."""
        return self.norm.project(x, self.images, self.epsilon, self.bounds)

    def step(self, x: Array, direction: Array, size: Scalar) -> Array:
        """Take the steepest step of norm `size` along `direction`; project."""
        return self.project(x + size * self.norm.steepest(direction, x, self.bounds))

    def random_point(self, key: Array | None, index: Array | int) -> Array:
        """Draw the random start of the restart `index`."""
        assert key is not None  # `@attack` has checked it
        key = jax.random.fold_in(key, index)
        noise = self.norm.sample(key, self.images, self.epsilon)
        return self.project(self.images + noise)


def get_norm(name: str, known: tuple[str, ...] = tuple(NORMS)) -> Norm:
    """Return the norm of that name; raise `ValueError` unless it is `known`."""
    if name not in known:
        raise unknown_name("norm", name, known)
    return NORMS[name]
