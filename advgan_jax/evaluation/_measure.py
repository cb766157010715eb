"""The loop under all evaluations: make adversarial images and measure each.

It trusts no attack: predictions, distances and ranges are recomputed from the images.
It counts each image once, whatever the batch size and the number of devices.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from advgan_jax.checks import check_key
from advgan_jax.evaluation._task import (
    PaddedBatch,
    Task,
    check_adversarial,
    finite_logits,
)
from advgan_jax.evaluation._timed_attack import TimedAttack
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.types import Array

# Makes the adversarial images of the i-th batch.
MakeImages = Callable[[int, PaddedBatch], Any]


def attack_batches(
    task: Task, attack: TimedAttack, key: Array | None, epsilon: float | None = None
) -> MakeImages:
    """Return a function that attacks the i-th batch with the key `fold_in(key, i)`."""
    labels = task.labels if task.target_labels is None else task.target_labels
    if key is not None:
        check_key("evaluate", key)

    def make_images(i: int, batch: PaddedBatch) -> Any:
        """Attack one batch."""
        own_key = None if key is None else jax.random.fold_in(key, i)
        return attack(batch.images, labels[batch.index], own_key, epsilon)

    return make_images


def run_and_measure(
    task: Task,
    attack: TimedAttack,
    clean_predictions: np.ndarray,
    key: Array | None,
    epsilon: float | None = None,
    *,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Run an attack on all batches of a task; the evaluation includes its time."""
    attack.seconds = 0.0
    make_images = attack_batches(task, attack, key, epsilon)
    measured = measure(task, clean_predictions, make_images, keep=keep, title=title)
    return dataclasses.replace(measured, seconds=attack.seconds)


def measure(
    task: Task,
    clean_predictions: np.ndarray,
    make_images: MakeImages,
    *,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Make adversarial images, measure each, and keep the first `keep` of them."""
    columns, kept = [], []
    for i, batch in enumerate(task.batches(title)):
        adversarial = check_adversarial(make_images(i, batch), batch, task.bounds)
        changed = batch._replace(images=adversarial)
        logits = finite_logits(task, changed, kind="adversarial")
        predictions = np.argmax(logits, axis=-1).astype(np.int32)
        measured = (predictions, *_distances(adversarial, batch.images))
        columns.append([column[batch.mask] for column in measured])
        kept.append(adversarial[batch.mask & (batch.index < keep)])
    predictions, linf, l2, rms = map(np.concatenate, zip(*columns, strict=True))
    return Evaluation(
        *(task.labels, task.target_labels, clean_predictions, predictions),
        *(linf, l2, rms),
        examples=np.concatenate(kept),
    )


def _distances(adversarial: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the distances L-infinity, L2 and RMS of each image, `[B]`."""
    # In double precision: the difference of two float32 pixels is then exact.
    change = np.subtract(adversarial, clean, dtype=np.float64).reshape(len(clean), -1)
    l2 = np.sqrt(np.square(change).sum(axis=1))
    return np.abs(change).max(axis=1), l2, l2 / np.sqrt(change.shape[1])
