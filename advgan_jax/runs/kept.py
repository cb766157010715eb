"""Evaluations on disk, so that an interrupted comparison repeats none of them."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from advgan_jax.evaluation import Evaluation
from advgan_jax.reporting import replacing

_FIELDS = tuple(field.name for field in dataclasses.fields(Evaluation))


def save(path: pathlib.Path, by_size: Mapping[float | None, Evaluation]) -> None:
    """Writes one attack's evaluations, whole or not at all.

    Args:
      path: an `.npz` file; its folder is made if missing.
      by_size: evaluations by epsilon, None for an attack that takes none.
    """
    arrays = {
        f"{size}/{name}": getattr(evaluation, name)
        for size, evaluation in by_size.items()
        for name in _FIELDS
        if getattr(evaluation, name) is not None
    }
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: pathlib.Path) -> dict[float | None, Evaluation]:
    """Reads what `save` wrote.

    Args:
      path: the file.

    Returns:
      Evaluations by epsilon.
    """
    found: dict[float | None, dict] = {}
    with np.load(path) as arrays:
        for label, array in arrays.items():
            size, name = label.split("/")
            fields = found.setdefault(None if size == "None" else float(size), {})
            fields[name] = array if array.ndim else array.item()
    missing = dict.fromkeys(_FIELDS)
    return {size: Evaluation(**(missing | fields)) for size, fields in found.items()}
