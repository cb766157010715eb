"""Check the three kinds of answers and convert them to probabilities."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from advgan_jax.checks import SUM_TOLERANCE, unknown_name
from advgan_jax.logits import usable_logits

ANSWERS = ("probabilities", "logits", "labels")


class UnusableAnswer(ValueError):
    """An invalid answer; `usable` `[M, K]` are the answers before it."""

    def __init__(self, message: str, usable: np.ndarray | None = None) -> None:
        super().__init__(message)
        none = np.zeros((0, 0), np.float32)
        self.usable: np.ndarray = none if usable is None else usable


def check_kind(kind: str) -> None:
    """Raise `ValueError` unless `kind` is one of `ANSWERS`."""
    if kind not in ANSWERS:
        raise unknown_name("kind of answers", kind, ANSWERS)


def to_probabilities(
    raw: Any, kind: str, num_images: int, num_classes: int
) -> np.ndarray:
    """Convert a model's answers to float32 `[num_images, num_classes]` probabilities.

    Logits become their softmax, labels one-hot rows. `UnusableAnswer` names the first
    image with an invalid answer.
    """
    array = np.asarray(raw)
    if kind == "labels":
        return _from_labels(array, num_images, num_classes)
    shape = (num_images, num_classes)
    if not np.issubdtype(array.dtype, np.floating) or array.shape != shape:
        raise UnusableAnswer(
            f"expected {kind}, floats of shape {list(shape)}, got {array.dtype}"
            f"{list(array.shape)}; set `answers` to what the model returns "
            f"({', '.join(ANSWERS)}), and `num_classes` to the number of columns."
        )
    table = array.astype(np.float64)
    if kind == "logits":
        rule = "finite logits, or `-inf` for classes that are masked on all images"
        return _convert(table, {rule: usable_logits(table)}, _softmax)
    checks: dict[str, Any] = {"finite probabilities": np.isfinite(table).all(axis=1)}
    checks["probabilities of at least 0"] = (table >= 0).all(axis=1)
    with np.errstate(invalid="ignore"):
        sums_to_one = np.abs(table.sum(axis=1) - 1) <= SUM_TOLERANCE
    checks["rows that sum to one; for logits set answers='logits'"] = sums_to_one
    return _convert(table, checks, lambda rows: rows.astype(np.float32))


def _softmax(table: np.ndarray) -> np.ndarray:
    powers = np.exp(table - table.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _convert(
    table: np.ndarray,
    checks: Mapping[str, np.ndarray],
    convert: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Convert the rows, or raise with those before the first that fails a check."""
    bad = np.flatnonzero(~np.logical_and.reduce(list(checks.values())))
    if bad.size:
        wanted = next(wanted for wanted, good in checks.items() if not good[bad[0]])
        style: Any = {"precision": 4, "max_line_width": np.inf, "threshold": 20}
        raise UnusableAnswer(
            f"expected {wanted}, got {np.array2string(table[bad[0]], **style)} "
            f"for its image {bad[0]}.",
            convert(table[: bad[0]]),
        )
    return convert(table)


def _from_labels(array: np.ndarray, num_images: int, num_classes: int) -> np.ndarray:
    """Check class ids and return one-hot rows."""
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (num_images,):
        raise UnusableAnswer(
            f"expected labels, integers of shape [{num_images}], got "
            f"{array.dtype}{list(array.shape)}; take `argmax(axis=1)`, or set "
            "`answers` to 'probabilities' or 'logits'."
        )
    one_hot = np.eye(num_classes, dtype=np.float32)
    wanted = f"labels of `num_classes` = {num_classes}, from 0 to {num_classes - 1}"
    inside = (array >= 0) & (array < num_classes)
    return _convert(array, {wanted: inside}, lambda ids: one_hot[ids])
