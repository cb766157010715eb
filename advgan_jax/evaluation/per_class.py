"""A targeted attack towards one class after another, on the same images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from advgan_jax.evaluation.inputs import make_task, predict_all
from advgan_jax.evaluation.measuring import attack_batches, measure
from advgan_jax.evaluation.results import Evaluation
from advgan_jax.evaluation.timed import time_attack
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


def evaluate_targets(
    logits_fn: LogitsFn,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    target_classes: Sequence[int],
    *,
    batch_size: int = 500,
    key: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    keep: int = 0,
    progress: bool = False,
) -> dict[int, Evaluation]:
    """Attacks a model on all images towards each of some classes.

    The attack is compiled once, and the clean images are classified once.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      attack: a bound attack, see `evaluate`; takes wanted classes of any kind.
      images: `[N, H, W, C]`, uint8 or float32 within `bounds`.
      labels: int `[N]`, true classes.
      target_classes: the wanted classes, each in `[0, K)`.
      batch_size: how many images at a time.
      key: typed key, for attacks that draw random numbers.
      bounds: the least and the greatest pixel value.
      keep: how many adversarial images of each class to keep, the first ones.
      progress: whether to show a bar for each class.

    Returns:
      The evaluation towards each class.

    Raises:
      TypeError: as `evaluate`.
      ValueError: as `evaluate`.
    """
    evaluations, clean_predictions, timed = {}, None, None
    for wanted in target_classes:
        task = make_task(
            logits_fn,
            images,
            labels,
            target_labels=np.full(len(labels), wanted, np.int32),
            bounds=bounds,
            batch_size=batch_size,
        )
        if timed is None:
            timed, clean_predictions = time_attack(task, attack), predict_all(task)
        timed.seconds = 0.0
        measured = measure(
            task,
            clean_predictions,
            attack_batches(task, timed, key),
            keep=keep,
            title=f"attack towards {wanted}" if progress else None,
        )
        evaluations[int(wanted)] = dataclasses.replace(measured, seconds=timed.seconds)
    return evaluations


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Several evaluations as one of all their images, one after the other.

    Args:
      evaluations: all targeted, or none of them.

    Returns:
      An evaluation whose rates weigh each counted image the same; no examples. The
      time is the sum, None if one is not known.

    Raises:
      ValueError: if there are none.
    """
    if not evaluations:
        raise ValueError("`evaluations` must be at least one, got none.")
    columns = {
        field.name: None
        if getattr(evaluations[0], field.name) is None
        else np.concatenate([getattr(e, field.name) for e in evaluations])
        for field in dataclasses.fields(Evaluation)
        if field.name not in ("seconds", "examples")
    }
    times = [e.seconds for e in evaluations]
    return Evaluation(**columns, seconds=None if None in times else sum(times))
