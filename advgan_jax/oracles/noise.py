"""Compare two answers to the same images."""

from typing import NamedTuple

import numpy as np

from advgan_jax.checks import SUM_TOLERANCE

# A probability may change by this much with the batch it is computed in.
_ROUNDING = SUM_TOLERANCE


class Noise(NamedTuple):
    """Differences between two answers to the same images."""

    images: int  # number of images
    changed: int  # number of them whose answer changed by more than rounding
    other_class: int  # number of them whose class changed
    largest: float  # the largest difference of two probabilities

    def warning(self, queries: int) -> str:
        """Return the text of a warning, after `queries` queries that counted."""
        return (
            f"The black box is noisy: of {self.images} images queried a second time "
            f"(not counted among the {queries} queries), {self.changed} got another "
            f"answer and {self.other_class} another class; probabilities moved by up "
            f"to {self.largest:.2g}."
        )


def compare(before: np.ndarray, after: np.ndarray) -> Noise:
    """Compare two answers to each image, both `[B, K]` probabilities."""
    largest = np.abs(after - before).max(axis=1)
    return Noise(
        len(after),
        int((largest > _ROUNDING).sum()),
        int((after.argmax(axis=1) != before.argmax(axis=1)).sum()),
        float(largest.max(initial=0.0)),
    )


def least_certain(answers: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of answers `[N, K]`, those first in which models differ most.

    They are the least certain ones. Among labels no answer is less certain, so `count`
    evenly spaced rows come first.
    """
    certainty = answers.max(axis=1)
    if certainty.min() < certainty.max():
        return np.argsort(certainty, kind="stable")
    spread = np.linspace(0, len(answers) - 1, min(count, len(answers))).astype(int)
    return np.append(spread, np.setdiff1d(np.arange(len(answers)), spread))


def another_model(ledger: str, noise: Noise) -> ValueError:
    """Return the error for a ledger whose answers the model does not give."""
    return ValueError(
        f"The ledger {ledger} must hold answers of this model, but of "
        f"{noise.images} recorded images that were sent again, {noise.changed} got "
        f"another answer and {noise.other_class} another class; give each model its "
        "own ledger. For a noisy model that you trust, set `probe=0`."
    )
