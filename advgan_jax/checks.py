"""Check input; each error states what was expected, what came, and the cure.

A wrong type or dtype raises `TypeError`, anything else `ValueError`. Shapes and dtypes
are always checked; values only outside `jit`, where they are known.
"""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from advgan_jax.types import Array, Bounds

# Rows of a softmax sum to one within 1e-6 in float32, 1e-3 in half precision.
SUM_TOLERANCE = 1e-3


def is_concrete(*arrays: Any) -> bool:
    """Return whether the values of all `arrays` are known (none is a tracer)."""
    return not any(isinstance(a, jax.core.Tracer) for a in arrays)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, which lists the known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


def check_bounds(bounds: Bounds) -> None:
    """Raise `ValueError` unless `bounds` are two finite numbers, the lesser first."""
    if len(bounds) != 2 or not all(math.isfinite(b) for b in bounds):
        raise ValueError(f"`bounds` must be two finite numbers, got {bounds!r}.")
    if not bounds[0] < bounds[1]:
        raise ValueError(f"`bounds` must be (least, greatest), got {bounds!r}.")


def check_images(images: Array | np.ndarray, bounds: Bounds = (0.0, 1.0)) -> None:
    """Check that images are float32 or float64 `[B, H, W, C]` within `bounds`."""
    if images.ndim != 4:
        raise ValueError(
            f"`images` must have shape [B, H, W, C], got {images.shape}; "
            "add the missing axis (`images[None]` for one image, "
            "`images[..., None]` for grey images without a channel)."
        )
    if images.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"`images` must be float32, got {images.dtype}; half precision cannot "
            "hold small perturbations and integers cannot be differentiated: "
            "convert with `images.astype(jnp.float32)` (uint8: divide by 255)."
        )
    if not is_concrete(images) or images.size == 0:
        return
    low, high = float(images.min()), float(images.max())
    # In the precision of the images: float32(0.3) is above the double 0.3.
    least, greatest = (float(images.dtype.type(b)) for b in bounds)
    if not (least <= low and high <= greatest):
        cure = " Divide by 255." if 2 < high <= 255 and low >= 0 else ""
        raise ValueError(
            f"`images` must lie within bounds {bounds}, got values from {low:g} to "
            f"{high:g}.{cure} Normalisation belongs inside `logits_fn`."
        )


def check_labels(
    labels: Array | np.ndarray,
    num_images: int,
    num_classes: int,
    *,
    name: str = "labels",
) -> None:
    """Check that `labels` are integers `[num_images]` in `[0, num_classes)`."""
    message = (
        f"`{name}` must be integer class ids of shape ({num_images},), got "
        f"{labels.dtype}{list(labels.shape)}; one-hot labels are not accepted, use "
        "`argmax(axis=-1)`."
    )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(message)
    if labels.shape != (num_images,):
        raise ValueError(message)
    if is_concrete(labels) and labels.size:
        values = np.asarray(labels)
        bad = np.flatnonzero((values < 0) | (values >= num_classes))
        if bad.size:
            raise ValueError(
                f"`{name}` must be in [0, {num_classes}), got {values[bad[0]]} at "
                f"index {bad[0]}; does the model have as many classes as the data?"
            )


def check_at_least(name: str, value: Any, least: float) -> None:
    """Raise `ValueError` unless the concrete number `value` is finite, >= `least`."""
    if is_concrete(value) and not (value >= least and math.isfinite(value)):
        raise ValueError(f"`{name}` must be a finite number >= {least:g}, got {value}.")


def check_key(name: str, key: Any) -> None:
    """Check that an attack which draws random numbers has one typed key."""
    cure = "pass `key=jax.random.key(0)`"
    if key is None:
        raise ValueError(f"`{name}` draws random numbers and needs a key: {cure}.")
    if not isinstance(key, jax.Array) or not jnp.issubdtype(
        key.dtype, jax.dtypes.prng_key
    ):
        kind = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
        raise TypeError(
            f"`key` must be a typed key, got {kind}: {cure}, or wrap an old one with "
            "`jax.random.wrap_key_data`."
        )
    if key.ndim:
        raise ValueError(f"`key` must be one key, got shape {key.shape}: {cure}.")
