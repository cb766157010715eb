"""Pixels as a smooth function of a free variable, safe at the edges of the box."""

import jax.numpy as jnp

from advgan_jax.projections import clip_inward
from advgan_jax.types import Array, Bounds

# The tanh reaches so much further than the box. At an edge its slope then is about a
# tenth of that in the middle, instead of 0, and `w` is 1.9 instead of infinite.
_STRETCH = 1.05


def decode(w: Array, bounds: Bounds) -> Array:
    r"""`clip((l+h)/2 + s (h-l)/2 tanh(w), l, h)`; gradients into the box pass."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    low, high = (jnp.asarray(bound, w.dtype) for bound in bounds)
    return clip_inward(middle + _STRETCH * half * jnp.tanh(w), low, high)


def encode(images: Array, bounds: Bounds) -> Array:
    """The `w` of images within `bounds`; finite at 0 and 1 as well."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    return jnp.arctanh((images - middle) / (_STRETCH * half))
