"""Adam for searches in which each image counts its own steps."""

from typing import NamedTuple

import jax.numpy as jnp

from advgan_jax.attacks._descent import select, usable
from advgan_jax.attacks._norms import per_image
from advgan_jax.types import Array, Scalar

_DECAYS = (0.9, 0.999)
_TINY = 1e-8


class Adam(NamedTuple):
    """Iterates `w`, both moments of their gradients, and their steps `[B]`."""

    w: Array
    mean: Array
    square: Array
    step: Array


def begin(w: Array, zero: Array) -> Adam:
    """Return the state before the first step; `zero` is an integer 0 per image."""
    return Adam(w, 0 * w, 0 * w, zero)


def take_step(
    state: Adam,
    gradient: Array,
    success: Array,
    learning_rate: Scalar,
    directions: Array,
) -> Adam:
    """Take one step; along `directions` where the gradient is useless, see `usable`."""
    gradient, lost = usable(gradient, success)
    step = state.step + 1
    mean = _DECAYS[0] * state.mean + (1 - _DECAYS[0]) * gradient
    square = _DECAYS[1] * state.square + (1 - _DECAYS[1]) * gradient**2
    count = per_image(step.astype(mean.dtype), mean)
    unbiased = mean / (1 - _DECAYS[0] ** count)
    scale = jnp.sqrt(square / (1 - _DECAYS[1] ** count)) + _TINY
    w = state.w - learning_rate * unbiased / scale
    aside = state.w + learning_rate * directions
    return Adam(select(lost, aside, w), mean, square, step)
