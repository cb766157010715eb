"""Pixels of any range as numbers in [0, 1], where the constants of an attack apply."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from advgan_jax.attacks._descent import select
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn

UNIT: Bounds = (0.0, 1.0)
_LENGTHS = ("l2", "rms_distortion")  # fields of results, in pixel units


def to_unit(images: Array, bounds: Bounds) -> Array:
    """Map pixels within `bounds` to [0, 1], the ends exactly."""
    if bounds == UNIT:
        return images
    low, high = (jnp.asarray(bound, images.dtype) for bound in bounds)
    return jnp.clip((images - low) / (high - low), 0, 1)


def from_unit(x: Array, bounds: Bounds) -> Array:
    """Undo `to_unit`: exact at the ends, never beyond them, and linear outside."""
    if bounds == UNIT:
        return x
    low, high = (jnp.asarray(bound, x.dtype) for bound in bounds)
    size = high - low
    return jnp.where(x < 0.5, low + x * size, high - (1 - x) * size)


def run_in_unit(
    core: Callable,
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    bounds: Bounds,
    **hyperparams: Any,
) -> Any:
    """Run a core on images mapped to [0, 1]; return images and lengths in pixel units.

    An image that the core does not move is returned as it came, to the last bit.
    """
    unit, size = to_unit(images, bounds), bounds[1] - bounds[0]
    for name in ("epsilon", "step_size", "sufficient_distance"):
        if hyperparams.get(name) is not None:
            hyperparams[name] = hyperparams[name] / size

    def _model(x: Array) -> Array:
        return logits_fn(from_unit(x, bounds))

    def _restore(found: Array) -> Array:
        moved = jnp.any(found != unit, axis=pixel_axes(found))
        return select(moved, from_unit(found, bounds), images)

    result = core(_model, unit, labels, bounds=UNIT, **hyperparams)
    if bounds == UNIT:
        return result
    if isinstance(result, jax.Array):
        return _restore(result)
    lengths = {n: size * getattr(result, n) for n in _LENGTHS if n in result._fields}
    return result._replace(images=_restore(result.images), **lengths)
