"""Normalisation and layout in front of a model, so that attacks see plain pixels."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import unknown_name
from advgan_jax.types import Array, LogitsFn

LAYOUTS = ("NHWC", "NCHW")


def preprocessed(
    logits_fn: LogitsFn,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    layout: str = "NHWC",
    scale: float = 1.0,
) -> LogitsFn:
    r"""Put scaling, normalisation and layout in front of a model.

    .. math:: Z(x) = f((s x - \mu) / \sigma)

    `epsilon`, `bounds` and all norms of attacks then refer to `x`, not to the model's
    normalised input.

    Args:
      logits_fn: the model `f`, from its own input to logits `[B, K]`.
      mean: `mu`, one number or one for each channel, in units of `s x`; None means 0.
      std: `sigma`, likewise; None means 1.
      layout: the layout of the model's input, `NHWC` or `NCHW`.
      scale: `s`, for example 255 for a model of pixels from 0 to 255.

    Returns:
      A model of images `x`, `[B, H, W, C]`.

    Raises:
      ValueError: for an unknown layout, or values that are not finite or not positive
        where they must be; when called, for a wrong number of channels.
    """
    check_layout(layout)
    shift = _channels("mean", 0.0 if mean is None else mean)
    width = _channels("std", 1.0 if std is None else std)
    factor = _channels("scale", scale)
    if not ((width > 0).all() and (factor > 0).all()):
        raise ValueError(f"`std` and `scale` must be > 0, got {std} and {scale}.")

    def _logits_fn(images: Array) -> Array:
        for name, values in (("mean", shift), ("std", width)):
            if values.size not in (1, images.shape[-1]):
                raise ValueError(
                    f"`{name}` must have one value or one for each of the "
                    f"{images.shape[-1]} channels, got {values.size}; images are "
                    f"[B, H, W, C], got {list(images.shape)}."
                )
        inputs = images
        if scale != 1:
            inputs = inputs * factor.astype(images.dtype)
        if mean is not None or std is not None:
            inputs = (inputs - shift.astype(images.dtype)) / width.astype(images.dtype)
        return logits_fn(to_layout(inputs, layout))

    return _logits_fn


def check_layout(layout: str) -> None:
    """Raise `ValueError` unless the layout is known."""
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)


def to_layout(images: Array, layout: str) -> Array:
    """Bring images `[B, H, W, C]` into a layout; arrays of other ranks stay."""
    return (
        jnp.moveaxis(images, -1, 1) if layout == "NCHW" and images.ndim == 4 else images
    )


def _channels(name: str, values: float | Sequence[float]) -> np.ndarray:
    """Return one finite number, or one for each channel, as an array."""
    array = np.asarray(values, np.float64)
    if array.ndim > 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be one finite number or one for each channel, got "
            f"{values!r}."
        )
    return array
