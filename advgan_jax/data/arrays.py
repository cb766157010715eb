"""Data sets from arrays in memory, and from tables of numbers."""

import os
import pathlib
import warnings
from typing import Any

import numpy as np

from advgan_jax import checks
from advgan_jax.data.dataset import Dataset, check_split, divide, mask_for_test
from advgan_jax.types import Bounds


def from_arrays(
    images: Any,
    labels: Any,
    test_images: Any = None,
    test_labels: Any = None,
    *,
    split: float = 0.2,
    num_classes: int | None = None,
    name: str = "arrays",
) -> Dataset:
    """Make a data set of arrays.

    Arrays of `numpy.memmap` stay on the disk if they are uint8.

    Args:
      images: training images, `[N, H, W, C]` or `[N, H, W]`; see `check_split`.
      labels: int `[N]`, their classes.
      test_images: images for evaluation.
      test_labels: their classes.
      split: the share of each class that becomes test images if none are given.
      num_classes: K, by default the greatest label plus one.
      name: of the data set, in results.

    Returns:
      The data set, with checked shapes, dtypes and values.

    Raises:
      TypeError: for wrong dtypes.
      ValueError: for wrong shapes or values, or test images without labels.
    """
    if (test_images is None) != (test_labels is None):
        raise ValueError("`test_images` and `test_labels` must be given together.")
    given = [np.asarray(labels)]
    given += [] if test_labels is None else [np.asarray(test_labels)]
    known = all(ids.size and np.issubdtype(ids.dtype, np.integer) for ids in given)
    if num_classes is None:
        # Without integers `check_split` raises a better error.
        num_classes = max(2, *(int(a.max()) + 1 for a in given)) if known else 2
    train = check_split(images, labels, num_classes, where="train")
    if test_images is None:
        train, test = divide(train, mask_for_test(train.labels, split))
    else:
        test = check_split(test_images, test_labels, num_classes, where="test")
    return Dataset(name, train, test, num_classes)


def load_table(
    path: str | os.PathLike[str],
    *,
    label: str | int,
    bounds: Bounds,
    shape: tuple[int, int, int] | None = None,
    delimiter: str = ",",
    split: float = 0.2,
    num_classes: int | None = None,
) -> Dataset:
    r"""Load a table of numbers (CSV), one example in each row.

    Values are mapped from `bounds` :math:`(l, h)` to [0, 1] by
    :math:`(v - l) / (h - l)`, since all images of a data set lie there. Integers of
    `bounds=(0, 255)` become uint8.

    Args:
      path: the file, perhaps compressed (`.gz`). The first line names the columns, or
        has numbers as all others.
      label: the name of the column of classes, or its number from 0.
      bounds: the smallest and the largest possible value of all other columns.
      shape: `(H, W, C)` of an image, whose pixels stand in this order; by default one
        row of grey pixels.
      delimiter: the sign between two values.
      split: the share of each class that becomes test images.
      num_classes: K, by default the greatest label plus one.

    Returns:
      The data set, named `csv:PATH`.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if a value is no number or outside of `bounds`, the column is unknown,
        or the number of columns does not fit `shape`.
    """
    checks.check_bounds(bounds)
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"expected a table, found no file {path.absolute()}.")
    names, table = _read(path, delimiter)
    columns = names or [str(i) for i in range(table.shape[1])]
    if str(label) not in columns and not (
        isinstance(label, int) and 0 <= label < len(columns)
    ):
        raise checks.unknown_name(f"column of {path}", str(label), columns)
    place = columns.index(str(label)) if str(label) in columns else int(label)
    classes, pixels = table[:, place], np.delete(table, place, axis=1)
    if not (classes == np.rint(classes)).all():
        raise ValueError(f"Column {label!r} of {path} must have integers, class ids.")
    shape = (1, pixels.shape[1], 1) if shape is None else shape
    if np.prod(shape) != pixels.shape[1]:
        raise ValueError(
            f"{path} must have {np.prod(shape)} columns beside {label!r} for images of "
            f"shape {list(shape)}, got {pixels.shape[1]}."
        )
    images = _scale(pixels, bounds, path).reshape(-1, *shape)
    return from_arrays(
        images,
        classes.astype(np.int32),
        split=split,
        num_classes=num_classes,
        name=f"csv:{path}",
    )


def _read(path: pathlib.Path, delimiter: str) -> tuple[list[str], np.ndarray]:
    """Return the names of the columns, if there are any, and the float64 table."""
    options: Any = {"delimiter": delimiter, "comments": None, "quotechar": '"'}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file
            first = np.loadtxt(path, str, max_rows=1, ndmin=1, **options)
            header = not all(map(_is_number, first))
            table = np.loadtxt(path, skiprows=int(header), ndmin=2, **options)
    except (ValueError, OSError, EOFError, UserWarning) as error:
        raise ValueError(
            f"{path} must be a table of numbers with {delimiter!r} between them, "
            f"perhaps below one line of names, got something else: {error}."
        ) from error
    if header and len(first) != table.shape[1]:
        raise ValueError(
            f"{path} must have as many values in each row as names in its first line, "
            f"got {len(first)} names and {table.shape[1]} columns."
        )
    return ([str(name).strip() for name in first] if header else []), table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _scale(values: np.ndarray, bounds: Bounds, path: pathlib.Path) -> np.ndarray:
    """Map values from `bounds` to [0, 1], or bytes to uint8."""
    low, high = bounds
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ValueError(
            f"{path} must have values within bounds {tuple(bounds)}, got "
            f"{values[row, column]:g} in row {row}, column {column} of the features; "
            "set `bounds` to the range of all features."
        )
    if tuple(bounds) == (0, 255) and (values == np.rint(values)).all():
        return values.astype(np.uint8)
    return ((values - low) / (high - low)).astype(np.float32)
