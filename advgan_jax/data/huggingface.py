"""Data sets of the library `datasets` (Hugging Face), which need not be installed."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from advgan_jax import checks
from advgan_jax.data.dataset import Dataset, mask_for_test
from advgan_jax.data.stored import ListedSplit, decode, decode_array

_TESTS = ("test", "validation", "valid", "val")


def from_huggingface(
    dataset: Any,
    *,
    image: str,
    label: str,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    split: float = 0.2,
    name: str = "huggingface",
) -> Dataset:
    """Make a data set of one that `datasets.load_dataset` returned.

    Args:
      dataset: a `DatasetDict` with `train` and `test` (or `validation`); or one
        `Dataset`, or any sequence of mappings, which is divided.
      image: the name of the column of images: Pillow images, encoded files, or arrays.
      label: the name of the column of classes, integers.
      size: height and width to which each image is scaled; see `load_image_folder`.
      channels: 1, 3 or 4, to convert all images; see `load_image_folder`.
      split: the share of each class that becomes test images, for one `Dataset`.
      name: of the data set, in results.

    Returns:
      The data set. Images are read when they are used.

    Raises:
      TypeError: for a streaming data set, or labels that are no integers.
      ValueError: if a column or a split is missing, or an image is unusable.
    """
    if isinstance(dataset, Mapping):
        tests = [key for key in _TESTS if key in dataset]
        if "train" not in dataset or not tests:
            raise ValueError(
                "`dataset` must have the splits 'train' and 'test' (or 'validation'), "
                f"got {sorted(dataset)}; pass one of them, which is then divided."
            )
        parts = {"train": dataset["train"], "test": dataset[tests[0]]}
    else:
        parts = {"train": dataset}
    for part in parts.values():
        _check_columns(part, image, label)
    labels = {where: _labels(part, label) for where, part in parts.items()}
    num_classes = _num_classes(parts["train"], label, list(labels.values()))
    for where, ids in labels.items():
        checks.check_labels(ids, len(ids), num_classes, name=f"{where} labels")
    rows = {where: (parts[where], np.arange(len(ids))) for where, ids in labels.items()}
    if len(parts) == 1:
        mask = mask_for_test(labels["train"], split)
        rows = {"train": (dataset, ~mask), "test": (dataset, mask)}
        rows = {key: (part, np.flatnonzero(m)) for key, (part, m) in rows.items()}
        labels = dict.fromkeys(rows, labels["train"])
    splits = {
        where: ListedSplit(
            index,
            partial(_image, part, image, size=size, channels=channels),
            labels[where][index].astype(np.int32),
            where=f"{name} {where}",
        )
        for where, (part, index) in rows.items()
    }
    return Dataset(name, splits["train"], splits["test"], num_classes)


def _check_columns(part: Any, image: str, label: str) -> None:
    """Raise unless a split has a length, an image, and both columns."""
    if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
        raise TypeError(
            f"`dataset` must have a length and rows, got {type(part).__name__}; load "
            "it with `streaming=False`."
        )
    if not len(part):
        raise ValueError("`dataset` must have at least one row, got none.")
    columns = getattr(part, "column_names", None) or list(part[0])
    for column in (image, label):
        if column not in columns:
            raise checks.unknown_name("column", column, columns)


def _labels(part: Any, label: str) -> np.ndarray:
    """Return a column of integers `[N]`."""
    # A column of `datasets` is read alone; a row would decode its image.
    by_column = hasattr(part, "column_names")
    column = part[label] if by_column else [row[label] for row in part]
    ids = np.asarray(list(column))
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(
            f"Column {label!r} must have integers, class ids, got {ids.dtype}; use "
            f"`dataset.class_encode_column({label!r})`."
        )
    return ids


def _num_classes(part: Any, label: str, labels: Sequence[np.ndarray]) -> int:
    """Return the number of classes that the column declares, or derive it."""
    features = getattr(part, "features", None)
    declared = features.get(label) if isinstance(features, Mapping) else None
    most = max(int(ids.max()) for ids in labels)
    return int(getattr(declared, "num_classes", None) or max(2, most + 1))


def _image(
    part: Any,
    column: str,
    row: np.integer,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
) -> np.ndarray:
    """Return the pixels of a row, `[H, W, C]`."""
    found, name = part[int(row)][column], f"Image {row}"
    if isinstance(found, Mapping) and found.get("bytes"):
        found = Image.open(io.BytesIO(found["bytes"]))
    elif isinstance(found, Mapping) and found.get("path"):
        found = Image.open(found["path"])
    if isinstance(found, Image.Image):
        return decode(found, name, size, channels)
    if size is not None or channels is not None:
        raise ValueError(
            f"{name} is an array, which `size` and `channels` do not convert; omit."
        )
    return decode_array(found, name)
