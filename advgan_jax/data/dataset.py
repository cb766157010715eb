"""Splits and datasets: numpy arrays that were checked once, where they came in."""

import dataclasses
import math
from typing import Any, TypeVar

import jax
import numpy as np

from advgan_jax import checks

_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA

ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images with their classes; `check_split` makes one from untrusted arrays.

    Attributes:
      images: `[N, H, W, C]`, uint8 (pixel k means k/255) or float32 in [0, 1].
      labels: int32 `[N]`, class ids.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.images.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Of the images."""
        return self.images.dtype

    @property
    def num_bytes(self) -> int:
        """Of all images together."""
        return len(self) * math.prod(self.image_shape) * self.dtype.itemsize

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some images with their classes.

        Args:
          indices: int `[n]`, from 0 to N - 1.

        Returns:
          Images `[n, H, W, C]` and labels `[n]`.
        """
        return self.images[indices], self.labels[indices]

    def take(self, num_images: int) -> "Split":
        """Returns the first images.

        Args:
          num_images: how many, from 1 to the size of the split.

        Returns:
          A split that shares memory with this one.

        Raises:
          ValueError: if the split does not have so many images.
        """
        self._check_take(num_images)
        return Split(self.images[:num_images], self.labels[:num_images])

    def _check_take(self, num_images: int) -> None:
        if not 1 <= num_images <= len(self):
            raise ValueError(
                f"`num_images` must be from 1 to {len(self)}, the size of the split, "
                f"got {num_images}."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image-classification data set.

    Attributes:
      name: what `load_dataset` was asked for.
      train: the training images.
      test: the images for evaluation, of the same shape and dtype.
      num_classes: K; labels are in `[0, K)`.
    """

    name: str
    train: Split
    test: Split
    num_classes: int

    def __post_init__(self):
        train, test = self.train, self.test
        if train.image_shape != test.image_shape or train.dtype != test.dtype:
            raise ValueError(
                f"train and test images of {self.name!r} must have one shape and "
                f"dtype, got {train.dtype}{list(train.image_shape)} and "
                f"{test.dtype}{list(test.image_shape)}; convert one of them."
            )


def check_split(
    images: Any, labels: Any, num_classes: int, *, where: str = "split"
) -> Split:
    """Checks untrusted arrays once and brings them into the library's form.

    Grey images without a channel axis get one; other floats become float32 and other
    integers int32. Nothing else is changed: what cannot be meant literally is refused.

    Args:
      images: `[N, H, W, C]` with C 1, 3 or 4, or `[N, H, W]`; uint8 or floating in
        [0, 1].
      labels: integer `[N]`, in `[0, num_classes)`.
      num_classes: K, at least 2.
      where: the name of the split, for messages.

    Returns:
      The split, images uint8 or float32.

    Raises:
      TypeError: if a dtype is wrong.
      ValueError: if a shape or a value is wrong, or there is no image.
    """
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be at least 2, got {num_classes}.")
    images = _check_pixels(_check_shape(np.asarray(images), where), where)
    labels = np.asarray(labels)
    checks.check_labels(labels, len(images), num_classes, name=f"{where} labels")
    return Split(images, labels.astype(np.int32, copy=False))


def to_float(images: ArrayT) -> ArrayT:
    """Pixels as float32 in [0, 1].

    Multiplies by float32(1/255), because XLA does so too with a division by 255: the
    same bits on the host, eagerly and under `jit`, at most one ulp from k/255, and 255
    is 1.0 exactly.

    Args:
      images: numpy or JAX array of any shape, uint8 or float32.

    Returns:
      uint8 k as k/255; float32 unchanged. Same kind of array as `images`.

    Raises:
      TypeError: if the dtype is another.
    """
    if images.dtype == np.uint8:
        return images.astype(np.float32) * np.float32(1 / 255)
    if images.dtype == np.float32:
        return images
    raise TypeError(
        f"`images` must be uint8 or float32, got {images.dtype}; "
        "`check_split` converts other floats."
    )


def split_for_distillation(
    split: Split, fraction: float, *, seed: int
) -> tuple[Split, Split]:
    """Cuts a split in two that share no image, each with all classes in proportion.

    A distilled model must not see what its target model was trained on.

    Args:
      split: what to cut; N images.
      fraction: the share of the second part, in (0, 1).
      seed: chooses the images; the same seed gives the same parts.

    Returns:
      `(target_part, distillation_part)`, with `N - n` and `n = round(fraction N)`
      images in their former order; of each class the second part has `fraction` of
      its images, give or take one.

    Raises:
      ValueError: if `fraction` is out of range or leaves a part empty.
    """
    count = round(fraction * len(split)) if 0 < fraction < 1 else 0
    if not 0 < count < len(split):
        raise ValueError(
            "`fraction` must be in (0, 1) and leave an image for both parts, got "
            f"{fraction} of {len(split)} images."
        )
    picked = stratified_mask(split.labels, count, seed=seed)
    return (
        Split(split.images[~picked], split.labels[~picked]),
        Split(split.images[picked], split.labels[picked]),
    )


def stratified_mask(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Picks `count` examples at random, from every class in proportion.

    Systematic sampling: with the examples sorted by class, and at random within a
    class, every (N / count)-th is taken, so a class of m gives `m count / N`, plus or
    minus one.

    Args:
      labels: int `[N]`.
      count: how many to pick, at most N.
      seed: of the order within the classes.

    Returns:
      bool `[N]`, True where picked.
    """
    by_class = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    quota = np.arange(len(labels) + 1) * count // len(labels)
    mask = np.zeros(len(labels), bool)
    mask[by_class] = quota[1:] > quota[:-1]
    return mask


def _check_shape(images: np.ndarray, where: str) -> np.ndarray:
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in _CHANNELS:
        raise ValueError(
            f"{where} images must have shape [N, H, W, C] with C in {_CHANNELS}, or "
            f"[N, H, W], got {list(shape)}; move the channels last "
            "(`images.transpose(0, 2, 3, 1)`) or reshape flat images."
        )
    if images.size == 0:
        raise ValueError(
            f"{where} images must be at least one, got shape {list(shape)}."
        )
    return images


def _check_pixels(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(
            f"{where} images must be uint8 or floating, got {images.dtype}; if pixels "
            "are 0..255 use `images.astype(np.uint8)`, else scale them to [0, 1]."
        )
    images = images.astype(np.float32, copy=False)
    # A comparison with NaN is False, so this finds NaN too.
    inside = (images >= 0) & (images <= 1)
    if not inside.all():
        raise ValueError(_describe_outside(images, inside, where))
    return images


def _describe_outside(images: np.ndarray, inside: np.ndarray, where: str) -> str:
    first = int(np.flatnonzero(~inside.all(axis=(1, 2, 3)))[0])
    expected = f"{where} images of floating dtype must be in [0, 1]"
    if not np.isfinite(images).all():
        bad = int(np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))[0])
        return f"{expected}, found NaN or infinity in image {bad}; remove or repair it."
    low, high = float(images.min()), float(images.max())
    if low < 0:
        cure = "undo the normalisation, it belongs inside the model"
    elif high > 2:
        cure = "divide by 255" if high <= 255 else f"divide by {high:g}"
    else:
        cure = "clip them, `np.clip(images, 0, 1)`, if this is rounding"
    return (
        f"{expected}, found min {low} and max {high}, first in image {first}; {cure}."
    )
