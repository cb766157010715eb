"""What a run keeps of each evaluation for its report: counts by class, and images.

`samples/NAME.npz` belongs to one row of `results.json`. It has 8-bit pictures of the
first images, what the model makes of them, and counts of all counted images:

| array | content |
|---|---|
| `clean`, `perturbation`, `adversarial` | uint8 `[M, h, w, c]`; 128 means no change |
| `labels`, `targets`, `clean_predictions`, `predictions` | int `[M]`; -1: no target |
| `l2`, `linf`, `margin`, `scale` | float `[M]`; `scale` `[]` is the largest change |
| `by_class` | int `[2, K]`, successes and trials by true class |
| `pairs` | int `[2, K, K]`, successes and trials by true and wanted class |
| `confusion` | int `[K, K]`, images by true and predicted class under attack |
"""

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from advgan_jax import digest
from advgan_jax.data import Dataset, to_float
from advgan_jax.evaluation import Evaluation, make_row
from advgan_jax.files import one_line, read_npz
from advgan_jax.reporting.files import replacing

SAMPLES = "samples"
SHOWN = 60  # images of an evaluation
_LARGEST = 64  # pixels of a picture's longer side
_MOST_CLASSES = 30  # in a matrix of pairs of classes
# What distinguishes the rows of a run, and what no method changes afterwards.
_SAME = (
    *("target_model", "attack", "target_class", "epsilon", "norm", "num_images"),
    *("robust_accuracy", "attack_success_rate", "l2_mean"),
)
_log = logging.getLogger(__name__)


def kept_row(
    workdir: pathlib.Path, dataset: Dataset, evaluation: Evaluation, /, **fields: Any
) -> dict[str, Any]:
    """Return the row of an evaluation of the first test images, and keep its sample.

    Args:
      workdir: the folder of the run.
      dataset: the data set of the run.
      evaluation: of one attack on its test images.
      **fields: see `evaluation.make_row`.
    """
    row = make_row(evaluation, **fields)
    with harmless("its report has no images of an evaluation"):
        arrays = _arrays(evaluation, dataset)
        with replacing(_path(workdir, row)) as partial, partial.open("wb") as file:
            save: Any = np.savez_compressed
            save(file, **arrays)
    return row


def read_sample(
    workdir: pathlib.Path, row: Mapping[str, Any]
) -> dict[str, np.ndarray] | None:
    """Return the arrays that belong to a row of `results.json`; None without any."""
    with harmless("the report has no images of an evaluation"):
        path = _path(workdir, row)
        return read_npz(path) if path.exists() else None
    return None


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """Log any fault of the block, which must not make a finished run fail."""
    try:
        yield
    except Exception as error:
        _log.warning("The run is complete, but %s: %s", what, one_line(error))


def _path(workdir: pathlib.Path, row: Mapping[str, Any]) -> pathlib.Path:
    name = digest.of_json([row[field] for field in _SAME])[: digest.SHORT]
    return workdir / SAMPLES / f"{name}.npz"


def _arrays(evaluation: Evaluation, dataset: Dataset) -> dict[str, Any]:
    """Return the arrays of the table above; those that do not apply are missing."""
    counted, success = evaluation.counted(), evaluation.succeeded
    labels, targets = evaluation.labels, evaluation.target_labels
    found = evaluation.adversarial_predictions
    num_classes = max(dataset.num_classes, 1 + int(max(labels.max(), found.max())))
    arrays: dict[str, Any] = {
        "by_class": np.stack(
            [
                np.bincount(labels[marked], minlength=num_classes)
                for marked in (counted & success, counted)
            ]
        )
    }
    if num_classes <= _MOST_CLASSES:
        arrays["confusion"] = _count(labels, found, counted, num_classes)
        if targets is not None:
            marks = (counted & success, counted)
            counts = [_count(labels, targets, mark, num_classes) for mark in marks]
            arrays["pairs"] = np.stack(counts)
    examples = evaluation.examples
    if examples is None or examples.ndim != 4 or not len(examples):
        return arrays
    few = slice(min(len(examples), SHOWN))
    clean = dataset.test.images[: len(evaluation.labels)][few]
    arrays |= _pictures(to_float(clean), examples[few])
    none = np.full_like(labels, -1)
    columns = {
        "labels": labels,
        "targets": none if targets is None else targets,
        "clean_predictions": evaluation.clean_predictions,
        "predictions": found,
        "l2": evaluation.l2,
        "linf": evaluation.linf,
        "margin": evaluation.margin,
    }
    return arrays | {n: c[few] for n, c in columns.items() if c is not None}


def _count(
    rows: np.ndarray, columns: np.ndarray, mark: np.ndarray, size: int
) -> np.ndarray:
    """Return how many marked images have each pair of classes, int `[K, K]`."""
    flat = np.bincount(size * rows[mark] + columns[mark], minlength=size * size)
    return flat.reshape(size, size)


def _pictures(clean: np.ndarray, adversarial: np.ndarray) -> dict[str, np.ndarray]:
    """Return images and their differences in 8 bits; `scale` is the largest change."""
    change = adversarial - clean
    scale = np.abs(change).max(initial=0)
    shown = {
        "clean": 255 * clean,
        "adversarial": 255 * adversarial,
        "perturbation": 128 + 127 * change / (scale or 1),
    }
    pictures = {name: _shrink(np.rint(p).astype(np.uint8)) for name, p in shown.items()}
    return {**pictures, "scale": scale}


def _shrink(images: np.ndarray) -> np.ndarray:
    """Return grey or RGB images of at most `_LARGEST` pixels a side."""
    images = images[..., :3] if images.shape[-1] >= 3 else images[..., :1]
    height, width = images.shape[1:3]
    factor = _LARGEST / max(height, width)
    if factor >= 1:
        return images
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    mode = Image.Resampling.BOX
    small = [
        np.asarray(
            Image.fromarray(
                image.squeeze(-1) if image.shape[-1] == 1 else image
            ).resize(size, mode)
        )
        for image in images
    ]
    return np.stack(small).reshape(len(images), size[1], size[0], -1)
