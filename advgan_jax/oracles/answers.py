"""The three kinds of answer, looked at and brought into one form: probabilities."""

from typing import Any

import numpy as np

from advgan_jax.checks import SUM_TOLERANCE, unknown_name

ANSWERS = ("probabilities", "logits", "labels")


class UnusableAnswer(ValueError):
    """An answer that cannot be meant; the message says expected, got and cure.

    Attributes:
      usable: float32 `[M, K]`, the answers to the images before the first such one.
    """

    def __init__(self, message: str, usable: np.ndarray | None = None):
        """Keeps what can be used.

        Args:
          message: expected, got, cure.
          usable: see above; None for nothing.
        """
        super().__init__(message)
        self.usable = np.zeros((0, 0), np.float32) if usable is None else usable


def check_kind(kind: str) -> None:
    """Raises `ValueError` unless `kind` is one of `ANSWERS`."""
    if kind not in ANSWERS:
        raise unknown_name("kind of answers", kind, ANSWERS)


def to_probabilities(
    raw: Any, kind: str, num_images: int, num_classes: int
) -> np.ndarray:
    """Checks a batch of answers and makes probabilities of them.

    Args:
      raw: what the model returned.
      kind: one of `ANSWERS`.
      num_images: B.
      num_classes: K.

    Returns:
      float32 `[B, K]`: probabilities as they are, the softmax of logits, or one-hot
      rows for labels.

    Raises:
      UnusableAnswer: if type, shape or a value is wrong; names the first such image.
    """
    # A batch of device arrays, tensors or lists: whatever numpy can read.
    array = np.asarray(raw)
    if kind == "labels":
        return _from_labels(array, num_images, num_classes)
    _check_table(array, kind, num_images, num_classes)
    table = array.astype(np.float64)
    checks = [(np.isfinite(table).all(axis=1), f"finite {kind}")]
    if kind == "logits":
        return _checked(table, checks, _softmax)
    with np.errstate(invalid="ignore"):
        sums_to_one = np.abs(table.sum(axis=1) - 1) <= SUM_TOLERANCE
    wanted = "rows that sum to one; for logits say answers='logits'"
    checks += [((table >= 0).all(axis=1), "probabilities of at least 0")]
    return _checked(table, [*checks, (sums_to_one, wanted)], np.float32)


def _softmax(table: np.ndarray) -> np.ndarray:
    powers = np.exp(table - table.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _check_table(array, kind, num_images, num_classes):
    if not np.issubdtype(array.dtype, np.floating) or array.shape != (
        num_images,
        num_classes,
    ):
        raise UnusableAnswer(
            f"expected {kind}, floats of shape [{num_images}, {num_classes}], got "
            f"{array.dtype}{list(array.shape)}; say with `answers` which of "
            f"{', '.join(ANSWERS)} the model returns, and with `num_classes` how many "
            "columns."
        )


def _checked(table, checks, convert):
    """Converts all rows, if each is good in all checks, or those before the first."""
    bad = np.flatnonzero(~np.logical_and.reduce([good for good, _ in checks]))
    if bad.size:
        wanted = next(wanted for good, wanted in checks if not good[bad[0]])
        raise UnusableAnswer(
            f"expected {wanted}, got {np.array2string(table[bad[0]], precision=4)} "
            f"for its image {bad[0]}.",
            convert(table[: bad[0]]),
        )
    return convert(table)


def _from_labels(array, num_images, num_classes):
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (num_images,):
        raise UnusableAnswer(
            f"expected labels, integers of shape [{num_images}], got "
            f"{array.dtype}{list(array.shape)}; take `argmax(axis=1)`, or say with "
            "`answers` that these are probabilities or logits."
        )
    one_hot = np.eye(num_classes, dtype=np.float32)
    bad = np.flatnonzero((array < 0) | (array >= num_classes))
    if bad.size:
        raise UnusableAnswer(
            f"expected labels from 0 to {num_classes - 1}, got {array[bad[0]]} for its "
            f"image {bad[0]}; is `num_classes` right?",
            one_hot[array[: bad[0]]],
        )
    return one_hot[array]
