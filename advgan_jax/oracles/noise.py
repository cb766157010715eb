"""Whether a black box repeats its answers."""

from typing import NamedTuple

import numpy as np

from advgan_jax.checks import SUM_TOLERANCE

# What a probability may change with the batch it is computed in.
_ROUNDING = SUM_TOLERANCE


class Noise(NamedTuple):
    """What changes when images are asked about a second time.

    Attributes:
      images: how many were.
      changed: how many got another answer, by more than rounding.
      other_class: how many got another class.
      largest: the largest difference of two probabilities.
    """

    images: int
    changed: int
    other_class: int
    largest: float


def compare(before: np.ndarray, after: np.ndarray) -> Noise:
    """Compares two answers about each of some images.

    Args:
      before: float32 `[B, K]`, probabilities.
      after: likewise.

    Returns:
      What has changed.
    """
    largest = np.abs(after - before).max(axis=1)
    return Noise(
        len(after),
        int((largest > _ROUNDING).sum()),
        int((after.argmax(axis=1) != before.argmax(axis=1)).sum()),
        float(largest.max(initial=0.0)),
    )
