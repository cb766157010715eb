"""The border of evaluation: what is attacked, checked once, and cut into batches."""

import dataclasses
import functools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import parallel
from advgan_jax.checks import (
    SUM_TOLERANCE,
    check_bounds,
    check_images,
    check_labels,
)
from advgan_jax.data import evaluation_batches, to_float
from advgan_jax.logits import as_pytree, check_logits_fn
from advgan_jax.types import Bounds, LogitsFn


class Rows(NamedTuple):
    """One padded batch of clean images.

    Attributes:
      images: float32 `[B, H, W, C]`.
      index: int `[B]`, which image of the whole set each is; padding repeats one.
      mask: bool `[B]`, False on padding.
    """

    images: np.ndarray
    index: np.ndarray
    mask: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A model and the images it is attacked on, checked; `make_task` makes one.

    Attributes:
      logits_fn: as the caller gave it.
      images: uint8 or float32 `[N, H, W, C]`.
      labels: int32 `[N]`.
      target_labels: int32 `[N]` or None.
      bounds: the least and the greatest pixel value.
      batch_size: B, at most N.
    """

    logits_fn: LogitsFn
    images: np.ndarray
    labels: np.ndarray
    target_labels: np.ndarray | None
    bounds: Bounds
    batch_size: int

    @functools.cached_property
    def model(self) -> LogitsFn:
        """The model as a pytree, its weights on all devices."""
        return parallel.replicate(as_pytree(self.logits_fn))

    def batches(self) -> Iterator[Rows]:
        """All images in order, in padded batches, pixels checked on the way."""
        index = np.arange(len(self.labels))
        for images, rows, mask in evaluation_batches(
            self.images, index, self.batch_size
        ):
            images = to_float(images)
            check_images(images, self.bounds)
            yield Rows(images, rows, mask)


def make_task(
    logits_fn: LogitsFn,
    images: Any,
    labels: Any,
    *,
    target_labels: Any = None,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 500,
) -> Task:
    """Checks everything that an evaluation starts from.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: `[N, H, W, C]`, uint8 or float32 within `bounds`.
      labels: int `[N]`, true classes.
      target_labels: int `[N]`, wanted classes; None for untargeted.
      bounds: the least and the greatest pixel value.
      batch_size: how many images at a time.

    Returns:
      The task.

    Raises:
      TypeError: for wrong dtypes.
      ValueError: for wrong shapes or values, or no image.
    """
    check_bounds(bounds)
    images = np.asarray(images)
    if images.size == 0:
        raise ValueError(
            f"`images` must be at least one, got shape {list(images.shape)}."
        )
    check_images(to_float(images[:1]), bounds)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    batch_size = min(batch_size, len(images))
    batch = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), jnp.float32)
    num_classes = check_logits_fn(as_pytree(logits_fn), batch)
    labels = _check_ids(labels, len(images), num_classes, "labels")
    if target_labels is not None:
        target_labels = _check_ids(
            target_labels, len(images), num_classes, "target_labels"
        )
    return Task(logits_fn, images, labels, target_labels, bounds, batch_size)


def _check_ids(ids: Any, num_images: int, num_classes: int, name: str) -> np.ndarray:
    ids = np.asarray(ids)
    check_labels(ids, num_images, num_classes, name=name)
    return ids.astype(np.int32, copy=False)


def check_adversarial(adversarial: Any, clean: Rows, bounds: Bounds) -> np.ndarray:
    """Checks what an attack returned for a batch.

    Args:
      adversarial: what should be float32 `[B, H, W, C]` within `bounds`.
      clean: the batch it was made from.
      bounds: the least and the greatest pixel value.

    Returns:
      The adversarial images as a numpy array.

    Raises:
      ValueError: if shape or dtype differ from the clean images', or a pixel is NaN or
        out of bounds; names the first such image.
    """
    wanted = clean.images
    shape, dtype = getattr(adversarial, "shape", None), getattr(adversarial, "dtype", 0)
    if shape != wanted.shape or dtype != wanted.dtype:
        got = f"{dtype}{list(shape)}" if shape is not None else type(adversarial)
        raise ValueError(
            f"Adversarial images must be {wanted.dtype}{list(wanted.shape)} like the "
            f"clean ones, got {got}; an attack returns images and nothing else."
        )
    adversarial = np.asarray(adversarial)
    low, high = np.float32(bounds)
    # A comparison with NaN is False, so this finds NaN too.
    inside = ((adversarial >= low) & (adversarial <= high)).all(axis=(1, 2, 3))
    if not inside.all():
        bad = int(np.flatnonzero(~inside)[0])
        pixels = adversarial[bad]
        raise ValueError(
            f"Adversarial images must lie within bounds {bounds}, image "
            f"{clean.index[bad]} has values from {pixels.min():g} to "
            f"{pixels.max():g}; an attack clips last."
        )
    return adversarial


@jax.jit
def _logits(logits_fn, images):
    return logits_fn(images).astype(jnp.float32)


def finite_logits(task: Task, batch: Rows, *, kind: str = "clean") -> np.ndarray:
    """The model's logits of a batch, computed on all devices and looked at.

    Args:
      task: the model.
      batch: images, and which images of the set they are.
      kind: what the images are called in messages.

    Returns:
      float32 `[B, K]`.

    Raises:
      ValueError: if a logit is not finite; names the first such image.
    """
    logits = _logits(task.model, parallel.spread(batch.images))
    logits = parallel.fetch(logits, len(batch.images))
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"`logits_fn` must return finite logits, got {logits[bad]} for {kind} "
            f"image {batch.index[bad]}; are the weights whole, and does the model "
            "normalise its input without dividing by zero?"
        )
    return logits


def predict_all(task: Task) -> np.ndarray:
    """The model's predictions on all clean images.

    Args:
      task: the model and the images.

    Returns:
      int32 `[N]`; of equal logits the first wins.

    Raises:
      ValueError: if a logit is not finite.
    """
    parts = [finite_logits(task, batch)[batch.mask] for batch in task.batches()]
    logits = np.concatenate(parts)
    sums_to_one = np.abs(logits.sum(axis=-1) - 1) <= SUM_TOLERANCE
    if (logits >= 0).all() and sums_to_one.all():
        warnings.warn(
            "The rows that `logits_fn` returned look like probabilities; pass logits, "
            "what comes before the softmax: gradients of probabilities vanish.",
            UserWarning,
            stacklevel=3,
        )
    return np.argmax(logits, axis=-1).astype(np.int32)
