"""Noise of a black box: whether it repeats its answers."""

from typing import NamedTuple

import numpy as np

from advgan_jax.checks import SUM_TOLERANCE

# A probability may change by this much with the batch it is computed in.
_ROUNDING = SUM_TOLERANCE


class Noise(NamedTuple):
    """Differences between two answers to the same images.

    Attributes:
      images: number of images.
      changed: number of images whose answer changed by more than rounding.
      other_class: number of images whose class changed.
      largest: the largest difference of two probabilities.
    """

    images: int
    changed: int
    other_class: int
    largest: float


def compare(before: np.ndarray, after: np.ndarray) -> Noise:
    """Compare two answers to each image, both float32 `[B, K]` probabilities."""
    largest = np.abs(after - before).max(axis=1)
    return Noise(
        len(after),
        int((largest > _ROUNDING).sum()),
        int((after.argmax(axis=1) != before.argmax(axis=1)).sum()),
        float(largest.max(initial=0.0)),
    )
