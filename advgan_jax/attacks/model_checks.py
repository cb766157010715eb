"""Checks of the model and the data that meet in an attack."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import (
    SUM_TOLERANCE,
    check_images,
    check_labels,
    is_concrete,
)
from advgan_jax.types import Array, Bounds, LogitsFn

_NUM_PROBED = 8

_call = jax.jit(lambda logits_fn, images: logits_fn(images))


def check_inputs(
    logits_fn: LogitsFn, images: Any, labels: Any, bounds: Bounds
) -> tuple[Array, Array | None]:
    """Checks images, labels and what the model makes of them.

    Args:
      logits_fn: a pytree that can be called.
      images: what should be float32 `[B, H, W, C]` within `bounds`.
      labels: what should be integers `[B]`, or None.
      bounds: the least and the greatest pixel value.

    Returns:
      Images and labels as arrays of JAX.

    Raises:
      TypeError: for wrong dtypes.
      ValueError: for wrong shapes and, outside of `jit`, wrong values.
    """
    images = images if hasattr(images, "dtype") else np.asarray(images)
    check_images(images, bounds)
    images = jnp.asarray(images)
    num_classes = check_logits_fn(logits_fn, images)
    if labels is not None:
        labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
        check_labels(labels, images.shape[0], num_classes)
        labels = jnp.asarray(labels).astype(jnp.int32)
    if images.size and is_concrete(images, *jax.tree.leaves(logits_fn)):
        _probe(logits_fn, images[:_NUM_PROBED])
    return images, labels


def check_logits_fn(
    logits_fn: LogitsFn, images: Array, *, name: str = "logits_fn"
) -> int:
    """Checks the shape and the dtype of a model's logits, without running it.

    Args:
      logits_fn: a pytree that can be called.
      images: `[B, H, W, C]`.
      name: the argument's name for the message.

    Returns:
      K, the number of classes.

    Raises:
      TypeError: if they are not floating-point numbers.
      ValueError: if they are not of shape `[B, K]`, `K >= 2`.
    """
    logits = _call.eval_shape(logits_fn, images)
    wanted = f"`{name}` must return logits of shape ({images.shape[0]}, K)"
    if not isinstance(logits, jax.ShapeDtypeStruct):
        raise TypeError(
            f"{wanted}, got a {type(logits).__name__}; return the logits alone."
        )
    if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
        raise ValueError(f"{wanted}, got {logits.shape} for images {images.shape}.")
    if logits.shape[1] < 2:
        raise ValueError(f"{wanted} and K >= 2, got K = {logits.shape[1]}.")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{wanted} in floating point, got {logits.dtype}.")
    return logits.shape[1]


def _probe(logits_fn: LogitsFn, images: Array) -> None:
    """Looks at the logits of a few images; outside of `jit` only."""
    logits = _call(logits_fn, images)
    if not is_concrete(logits):  # The function closes over traced weights.
        return
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(
            "`logits_fn` must return finite logits, got NaN or infinity on the clean "
            "images; are the weights trained, and is the input scaled as it expects?"
        )
    sums_to_one = np.abs(logits.sum(axis=-1) - 1) <= SUM_TOLERANCE
    if (logits >= 0).all() and sums_to_one.all():
        warnings.warn(
            "The rows that `logits_fn` returned look like probabilities; pass logits, "
            "what comes before the softmax: gradients of probabilities vanish.",
            UserWarning,
            stacklevel=4,
        )
