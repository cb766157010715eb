"""Check arrays once and hold them as splits and data sets."""

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from advgan_jax import checks, digest

_DIGESTED = 4096  # rows that are read and digested at once
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


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

    @cached_property
    def digest(self) -> str:
        """Digest of the images and labels, which identifies what was made from them."""
        return digest_rows(self, len(self))

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

    @property
    def digest(self) -> list[str | int]:
        """Digests of both splits, and K."""
        return [self.train.digest, self.test.digest, self.num_classes]

    def __post_init__(self) -> None:
        """Raise `ValueError` unless both splits have one shape and dtype."""
        train, test = self.train, self.test
        if train.image_shape != test.image_shape or train.dtype != test.dtype:
            raise ValueError(
                f"train and test images of {self.name!r} must have one shape and "
                f"dtype, got {train.dtype}{list(train.image_shape)} and "
                f"{test.dtype}{list(test.image_shape)}; convert one of them."
            )


def digest_rows(split: Split, num_rows: int) -> str:
    """Return the digest of a split's length and of evenly spaced rows of it."""
    rows = np.linspace(0, len(split) - 1, num_rows).round().astype(int)
    found = hashlib.sha256(str(len(split)).encode())
    for start in range(0, num_rows, _DIGESTED):
        for array in split.rows(rows[start : start + _DIGESTED]):
            found.update(digest.of_array(array).encode())
    return found.hexdigest()[: digest.SHORT]


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
    if pixels.ndim != 4 or pixels.shape[-1] not in CHANNELS:
        raise ValueError(
            f"{where} images must have shape [N, H, W, C] with C in {CHANNELS}, or "
            f"[N, H, W], got {shape}; move the channels last "
            "(`images.transpose(0, 2, 3, 1)`) or reshape flat images."
        )
    if not pixels.size:
        raise ValueError(f"{where} has no images: got shape {shape}, need one.")
    if pixels.dtype != np.uint8:
        pixels = np.asarray(checks.as_images(pixels, name=f"{where} images"))
        pixels = pixels.astype(np.float32, copy=False)  # in JAX's x64 mode too
    classes = np.asarray(labels)
    checks.check_labels(classes, len(pixels), num_classes, name=f"{where} labels")
    return Split(pixels, classes.astype(np.int32, copy=False))


def split_for_distillation(
    split: Split, fraction: float, *, seed: int
) -> tuple[Split, Split]:
    """Divide a split in two, so that distillation uses no image of the target model.

    Args:
      split: N images.
      fraction: the share of the second part, in each class plus or minus one image.
      seed: selects the images, in `[0, 2**32)`; equal seeds give equal parts.

    Returns:
      `(target_part, distillation_part)`, both in their former order; the second has
      `round(fraction N)` images.

    Raises:
      ValueError: if `fraction` is not in (0, 1) or a part would be empty.
    """
    checks.check_seed(seed)
    count = round(fraction * len(split)) if 0 < fraction < 1 else 0
    if not 0 < count < len(split):
        raise ValueError(
            "`fraction` must be in (0, 1) and give both parts an image, got "
            f"{fraction} of {len(split)} images."
        )
    return divide(split, stratified_mask(split.labels, count, seed=seed))


def check_test_share(split: Any) -> None:
    """Raise `ValueError` unless `split` is a share of test images in (0, 1)."""
    if isinstance(split, str) or not 0 < split < 1:
        raise ValueError(f"`split` must be a share in (0, 1), got {split!r}.")


def mask_for_test(
    labels: np.ndarray, share: Any, names: Sequence[str] | None = None
) -> np.ndarray:
    """Return bool `[N]` that selects a share of each class as test images.

    Both parts have at least one image of each class; the choice is always the same.
    `names` are those of the classes. `ValueError` for a share outside (0, 1), or a
    class with a single image.
    """
    check_test_share(share)
    generator, mask = np.random.default_rng(0), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            name = label if names is None else names[label]
            raise ValueError(
                f"Class {name!r} must have at least two images, one to train and one "
                "to test, got one."
            )
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        mask[generator.permutation(rows)[:count]] = True
    return mask


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


def check_trainable(split: Split, num_classes: int) -> None:
    """Raise `ValueError` unless a classifier can learn from the images of a split.

    They must be of at least two classes and of half of the classes, and not fewer than
    there are classes. A warning names a class without an image.
    """
    if np.ptp(split.labels) == 0:
        raise ValueError(
            f"The {len(split)} training images must be of at least two classes, got "
            f"only class {split.labels[0]}; shuffle the images, or take more of them."
        )
    if num_classes > len(split):
        raise ValueError(
            f"The {len(split)} training images must have one of each class, got "
            f"{num_classes} classes; is a label wrong (the greatest is "
            f"{split.labels.max()})?"
        )
    missing = np.setdiff1d(np.arange(num_classes), split.labels)
    if 2 * len(missing) > num_classes:
        raise ValueError(
            f"The {len(split)} training images must be of at least half of the "
            f"{num_classes} classes, got images of {num_classes - len(missing)}; is a "
            f"label wrong (the greatest is {split.labels.max()})? Else set "
            "`num_classes`, or take more images."
        )
    if len(missing):
        warnings.warn(
            f"{len(missing)} of {num_classes} classes have no training image, the "
            f"first is class {missing[0]}; the model cannot learn them.",
            UserWarning,
            stacklevel=2,
        )
