"""Round adversarial images to the grey levels of a file without leaving the ball.

An image that is saved with 8 bits changes by up to half a level, which may undo a small
perturbation or exceed epsilon. Attacks therefore report success on images that no file
can hold.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from advgan_jax import checks
from advgan_jax.numbers import ORDERS, distances
from advgan_jax.types import Array, Bounds

_NUM_HALVINGS = 12


def quantize(
    images: Any,
    originals: Any,
    *,
    epsilon: float | None = None,
    norm: str = "linf",
    levels: int = 256,
    bounds: Bounds = (0.0, 1.0),
) -> Array | np.ndarray:
    r"""Round adversarial images to grey levels within `epsilon` of the originals.

    The levels are :math:`l + k (h - l) / (L - 1)`. In L-infinity each pixel becomes the
    nearest level that is at most `epsilon` from the original pixel. In other norms it
    becomes the nearest level; an image that leaves the ball is rounded again after its
    perturbation was scaled down as little as possible.

    Args:
      images: adversarial images `[N, ...]` within `bounds`.
      originals: the clean images, the same shape; floats, or uint8 of any bounds.
      epsilon: radius of the ball in pixel units; None rounds to the nearest level.
      norm: of the ball, `linf`, `l2` or `l1`.
      levels: L, the number of levels; 256 for files of 8 bits.
      bounds: `(l, h)`, the smallest and the largest pixel value.

    Returns:
      Images `[N, ...]`, float32. With 256 levels they have the bits of the uint8 image
      that `data.save_images` writes. The result is a JAX array if the input is one.

    Raises:
      TypeError: for wrong dtypes.
      ValueError: for wrong values, shapes that differ, or if no level is within
        `epsilon` of an original's pixel.
    """
    checks.check_bounds(bounds)
    if norm not in ORDERS:
        raise checks.unknown_name("norm", norm, ORDERS)
    checks.check_levels(levels)
    if not checks.is_concrete(images, originals):
        raise TypeError(
            "`quantize` must be called outside of `jit`, got traced images."
        )
    moved, clean = (
        np.asarray(checks.as_images(x, bounds, name=name), np.float64)
        for x, name in ((images, "images"), (originals, "originals"))
    )
    if moved.shape != clean.shape:
        raise ValueError(
            f"`originals` must have the shape {list(moved.shape)} of `images`, got "
            f"{list(clean.shape)}."
        )
    table = level_values(levels, bounds)
    if epsilon is None:
        rows = _nearest(moved, table)
    else:
        checks.check_at_least("epsilon", epsilon, 0)
        rounded = _round_pixels if norm == "linf" else _round_images
        limit = checks.largest_distance(
            epsilon, bounds, norm=norm, num_pixels=clean[:1].size
        )
        rows = rounded(moved, clean, table, limit, norm)
    return (jnp.asarray if checks.is_jax(images) else np.asarray)(table[rows])


def level_values(levels: int, bounds: Bounds) -> np.ndarray:
    """Return the grey levels in float32, with the bits that `to_float` gives uint8."""
    if levels == 256:
        return checks.to_float(np.arange(256, dtype=np.uint8), bounds)
    return np.linspace(*bounds, levels).astype(np.float32)


def _nearest(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the index of the nearest level of each pixel."""
    low, high = float(table[0]), float(table[-1])
    rows = np.rint((pixels - low) * ((len(table) - 1) / (high - low)))
    return np.clip(rows, 0, len(table) - 1).astype(np.int64)


def _round_pixels(
    moved: np.ndarray, clean: np.ndarray, table: np.ndarray, limit: float, _: str
) -> np.ndarray:
    """Return the nearest level of each pixel within `limit` of its clean value."""
    exact = table.astype(np.float64)
    least = np.searchsorted(exact, clean - limit, side="left")
    greatest = np.searchsorted(exact, clean + limit, side="right") - 1
    _refuse(least > greatest, limit)
    return np.clip(_nearest(moved, table), least, greatest)


def _round_images(
    moved: np.ndarray, clean: np.ndarray, table: np.ndarray, limit: float, norm: str
) -> np.ndarray:
    """Return the levels of the largest multiple of each perturbation that fit."""
    batch = (len(clean), *[1] * (clean.ndim - 1))
    change = moved - clean

    def _try(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = _nearest(clean + scale.reshape(batch) * change, table)
        return rows, distances(table[rows], clean, norm) <= limit

    rows, fits = _try(np.ones(len(clean)))
    if fits.all():
        return rows
    none, fit_unmoved = _try(np.zeros(len(clean)))
    _refuse(~(fits | fit_unmoved), limit)
    best = np.where(fits.reshape(batch), rows, none)
    low, high = np.zeros(len(clean)), np.ones(len(clean))
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        rows, inside = _try(middle)
        best = np.where((inside & ~fits).reshape(batch), rows, best)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return best


def _refuse(outside: np.ndarray, limit: float) -> None:
    """Raise `ValueError` if an image has no level in its ball."""
    bad = np.flatnonzero(outside.reshape(len(outside), -1).any(axis=1))
    if bad.size:
        raise ValueError(
            f"`originals` must have a grey level within `epsilon` of each image, got "
            f"none within {limit:g} of image {bad[0]}; round the originals first "
            "(`quantize(originals, originals)`), or take a larger epsilon."
        )
