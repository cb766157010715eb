"""Measures, batch by batch, what became of images; the loop under all evaluations.

No attack's own flag is believed: predictions, distances and ranges are recomputed from
what it returned. No image is dropped or counted twice, whatever the batch size and the
number of devices that share a batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from advgan_jax.checks import check_key
from advgan_jax.evaluation.inputs import Rows, Task, check_adversarial, finite_logits
from advgan_jax.evaluation.results import Evaluation
from advgan_jax.evaluation.timed import TimedAttack
from advgan_jax.types import Array

# What makes adversarial images for the i-th batch.
Produce = Callable[[int, Rows], Any]


def attack_batches(
    task: Task, timed: TimedAttack, key: Array | None, epsilon: float | None = None
) -> Produce:
    """An attack as a source of adversarial images.

    Args:
      task: the model and the images.
      timed: the attack on that model.
      key: typed key or None; the i-th batch gets `fold_in(key, i)`.
      epsilon: overrides the attack's own, if given.

    Returns:
      `(i, batch) -> adversarial images`.

    Raises:
      TypeError: if the key is not a typed one.
    """
    labels = task.labels if task.target_labels is None else task.target_labels
    if key is not None:
        check_key("evaluate", key)

    def produce(i, rows):
        key_i = None if key is None else jax.random.fold_in(key, i)
        return timed(rows.images, labels[rows.index], key_i, epsilon)

    return produce


def measure(
    task: Task,
    clean_predictions: np.ndarray,
    produce: Produce,
    *,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Makes adversarial images and measures each.

    Args:
      task: the model and the images.
      clean_predictions: from `inputs.predict_all`.
      produce: makes the adversarial images of a batch.
      keep: how many adversarial images to keep, the first ones.
      title: of the progress bar; None for no bar.

    Returns:
      The evaluation, without a time.

    Raises:
      ValueError: if an image or a logit is not what it must be.
    """
    columns, kept = [], []
    bar = tqdm(
        total=len(task.labels),
        desc=title,
        unit=" img",
        unit_scale=True,
        disable=True if title is None else None,
    )
    with bar:
        for i, rows in enumerate(task.batches()):
            adversarial = check_adversarial(produce(i, rows), rows, task.bounds)
            moved = rows._replace(images=adversarial)
            logits = finite_logits(task, moved, kind="adversarial")
            predictions = np.argmax(logits, axis=-1).astype(np.int32)
            measured = (predictions, *_distances(adversarial, rows.images))
            columns.append([column[rows.mask] for column in measured])
            kept.append(adversarial[rows.mask & (rows.index < keep)])
            bar.update(int(rows.mask.sum()))
    measured = map(np.concatenate, zip(*columns, strict=True))
    return Evaluation(
        task.labels,
        task.target_labels,
        clean_predictions,
        *measured,
        examples=np.concatenate(kept),
    )


def _distances(adversarial: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distances L-inf, L2 and RMS of each image, `[B]`."""
    # In double precision: the difference of two float32 pixels is then exact.
    moved = np.subtract(adversarial, clean, dtype=np.float64).reshape(len(clean), -1)
    l2 = np.sqrt(np.square(moved).sum(axis=1))
    return np.abs(moved).max(axis=1), l2, l2 / np.sqrt(moved.shape[1])
