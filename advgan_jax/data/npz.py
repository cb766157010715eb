"""Load arrays of a user from one `.npz` file."""

import os
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from advgan_jax.data.dataset import Dataset, check_split
from advgan_jax.files import read_npz, reading

_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_KERAS_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """Load a data set from a file that `np.savez` wrote.

    Args:
      path: the file. It contains `train_images`, `train_labels`, `test_images` and
        `test_labels` (or Keras' `x_train`, `y_train`, `x_test` and `y_test`) as
        `check_split` accepts them; labels may also be `[N, 1]`. The integer
        `num_classes` is optional; its default is the greatest label plus one.

    Returns:
      The data set, named `npz:PATH`.

    Raises:
      FileNotFoundError: if there is no such file.
      TypeError: if an array has the wrong dtype.
      ValueError: if the file is no npz file, or an array is missing or wrong.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"expected an npz file, found none at {path.absolute()}; "
            "`npz:PATH` is relative to the current folder."
        )
    cure = "write it again with `np.savez`"
    with reading(path, "a complete npz file of plain arrays", cure):
        arrays = read_npz(path, (*_KEYS, *_KERAS_KEYS, "num_classes"))
    images, labels, test_images, test_labels = _select(arrays, path)
    declared = arrays.get("num_classes")
    num_classes = _count_classes(declared, labels, test_labels)
    if declared is None and num_classes > max(2, labels.size):
        raise ValueError(
            f"The greatest label in {path}, {num_classes - 1}, would make "
            f"{num_classes} classes of {labels.size} training images; correct it, or "
            "add the number of classes as `num_classes`."
        )
    return Dataset(
        name=f"npz:{path}",
        train=check_split(images, labels, num_classes, where="train"),
        test=check_split(test_images, test_labels, num_classes, where="test"),
        num_classes=num_classes,
    )


def _select(found: Mapping[str, np.ndarray], path: pathlib.Path) -> list[np.ndarray]:
    """Return the four arrays in the order of `_KEYS`."""
    keys = _KERAS_KEYS if _KERAS_KEYS[0] in found else _KEYS
    missing = [key for key in keys if key not in found]
    if missing:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n.removesuffix(".npy") for n in archive.namelist())
        raise ValueError(
            f"{path} must have the arrays {', '.join(keys)}; missing: "
            f"{', '.join(missing)}, found: {', '.join(names) or 'none'}."
        )
    arrays = [found[key] for key in keys]
    for i in (1, 3):
        if arrays[i].ndim == 2 and arrays[i].shape[1] == 1:
            arrays[i] = arrays[i][:, 0]
    return arrays


def _count_classes(
    declared: np.ndarray | None, labels: np.ndarray, test_labels: np.ndarray
) -> int:
    """Return the declared number of classes, or derive it from the labels."""
    if declared is not None:
        if declared.shape != () or not np.issubdtype(declared.dtype, np.integer):
            got = f"{declared.dtype}{list(declared.shape)}"
            raise ValueError(f"`num_classes` must be one integer, got {got}.")
        return int(declared)
    both = (labels, test_labels)
    if not all(a.size and np.issubdtype(a.dtype, np.integer) for a in both):
        return 2  # `check_split` then raises a better error
    return max(2, int(max(a.max() for a in both)) + 1)
