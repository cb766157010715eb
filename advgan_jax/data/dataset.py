"""Check arrays once and hold them as splits and data sets."""

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
    """Images with their classes; `check_split` converts untrusted arrays.

    Attributes:
      images: `[N, H, W, C]`, uint8 (pixel k means k/255) or float32 in [0, 1].
      labels: int32 `[N]`, class ids.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Return N."""
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the images."""
        return self.images.dtype

    @property
    def num_bytes(self) -> int:
        """Size of all images together."""
        return len(self) * math.prod(self.image_shape) * self.dtype.itemsize

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images `[n, H, W, C]` and labels `[n]` at int or bool `indices`."""
        return self.images[indices], self.labels[indices]

    def take(self, num_images: int) -> "Split":
        """Return the first images as a view; `ValueError` for a wrong number."""
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
      name: the argument of `load_dataset`.
      train: the training images.
      test: the images for evaluation, of the same shape and dtype.
      num_classes: K; labels are in `[0, K)`.
    """

    name: str
    train: Split
    test: Split
    num_classes: int

    def __post_init__(self) -> None:
        """Raise `ValueError` unless both splits have one shape and dtype."""
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
    """Check untrusted arrays once and convert them to the library's form.

    Grey images get a missing channel axis. Other floats become float32, other integers
    int32. Nothing else changes; ambiguous arrays are rejected.

    Args:
      images: `[N, H, W, C]` with C 1, 3 or 4, or `[N, H, W]`; uint8 or floating in
        [0, 1].
      labels: integer `[N]`, in `[0, num_classes)`.
      num_classes: K, at least 2.
      where: the name of the split in error messages.

    Returns:
      The split, images uint8 or float32.

    Raises:
      TypeError: if a dtype is wrong.
      ValueError: if a shape or a value is wrong, or there is no image.
    """
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be at least 2, got {num_classes}.")
    pixels = np.asarray(images)
    shape = list(pixels.shape)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in _CHANNELS:
        raise ValueError(
            f"{where} images must have shape [N, H, W, C] with C in {_CHANNELS}, or "
            f"[N, H, W], got {shape}; move the channels last "
            "(`images.transpose(0, 2, 3, 1)`) or reshape flat images."
        )
    if not pixels.size:
        raise ValueError(f"{where} has no images: got shape {shape}, need one.")
    pixels = _check_pixels(pixels, where)
    classes = np.asarray(labels)
    checks.check_labels(classes, len(pixels), num_classes, name=f"{where} labels")
    return Split(pixels, classes.astype(np.int32, copy=False))


def to_float(images: ArrayT) -> ArrayT:
    """Convert pixels to float32 in [0, 1].

    Args:
      images: numpy or JAX array of any shape; uint8 k means k/255, float32 is kept.

    Returns:
      An array of the same kind.

    Raises:
      TypeError: if the dtype is neither.
    """
    if images.dtype == np.uint8:
        # XLA divides by 255 with this product: the bits are the same everywhere.
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
    """Divide a split in two, so that distillation uses no image of the target model.

    Args:
      split: N images.
      fraction: the share of the second part, in each class plus or minus one image.
      seed: selects the images; equal seeds give equal parts.

    Returns:
      `(target_part, distillation_part)`, both in their former order; the second has
      `round(fraction N)` images.

    Raises:
      ValueError: if `fraction` is not in (0, 1) or a part would be empty.
    """
    count = round(fraction * len(split)) if 0 < fraction < 1 else 0
    if not 0 < count < len(split):
        raise ValueError(
            "`fraction` must be in (0, 1) and give both parts an image, got "
            f"{fraction} of {len(split)} images."
        )
    return divide(split, stratified_mask(split.labels, count, seed=seed))


def divide(split: Split, mask: np.ndarray) -> tuple[Split, Split]:
    """Return the images where bool `mask [N]` is False, and those where it is True."""
    return Split(*split.rows(~mask)), Split(*split.rows(mask))


def stratified_mask(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Return bool `[N]` that selects `count` examples, from every class in proportion.

    Systematic sampling takes every (N / count)-th example after sorting by class. The
    order within a class depends on `seed`.
    """
    by_class = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    quota = np.arange(len(labels) + 1) * count // len(labels)
    mask = np.zeros(len(labels), bool)
    mask[by_class] = quota[1:] > quota[:-1]
    return mask


def _check_pixels(images: np.ndarray, where: str) -> np.ndarray:
    """Return uint8 or float32 images, or raise for a wrong dtype or value."""
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(
            f"{where} images must be uint8 or floating, got {images.dtype}; if pixels "
            "are 0..255 use `images.astype(np.uint8)`, else scale them to [0, 1]."
        )
    images = images.astype(np.float32, copy=False)
    # Comparisons with NaN are False, so this also finds NaN.
    inside = (images >= 0) & (images <= 1)
    if not inside.all():
        raise ValueError(_describe_outside(images, inside, where))
    return images


def _describe_outside(images: np.ndarray, inside: np.ndarray, where: str) -> str:
    """Describe the pixels outside [0, 1] and the likely cure."""
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
