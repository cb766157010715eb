"""Evaluate a targeted attack towards one class after another, on the same images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advgan_jax.evaluation._measure import run_and_measure
from advgan_jax.evaluation._task import make_task, predict_clean
from advgan_jax.evaluation._timed_attack import TimedAttack
from advgan_jax.evaluation.result import Evaluation, total_seconds
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


def evaluate_per_class(
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
    """Attack a model on all images towards each of some classes.

    The attack is compiled once, and the clean images are classified once.
    `target_classes` are the wanted classes, each in `[0, K)`; all get the same key. The
    other arguments and the errors are those of `evaluate`.

    Returns:
      The evaluation towards each class.
    """
    evaluations: dict[int, Evaluation] = {}
    timed = clean = None
    for wanted in target_classes:
        target_labels = np.full(len(labels), wanted, np.int32)
        task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
        if timed is None or clean is None:
            timed, clean = TimedAttack(attack, task), predict_clean(task)
        title = f"attack towards {wanted}" if progress else None
        evaluations[int(wanted)] = run_and_measure(
            task, timed, clean, key, keep=keep, title=title
        )
    return evaluations


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Join several evaluations into one of all their images.

    Args:
      evaluations: all targeted, or all untargeted.

    Returns:
      An evaluation whose rates weigh each counted image the same, without examples.
      `seconds` is the sum, or None if one is unknown.

    Raises:
      ValueError: if there are none.
    """
    if not evaluations:
        raise ValueError("`evaluations` must be at least one, got none.")
    columns: dict[str, Any] = {
        field.name: None
        if getattr(evaluations[0], field.name) is None
        else np.concatenate([getattr(e, field.name) for e in evaluations])
        for field in dataclasses.fields(Evaluation)
        if field.name not in ("seconds", "examples")
    }
    return Evaluation(**columns, seconds=total_seconds(evaluations))


def summarize_classes(by_class: Mapping[int, Evaluation]) -> dict[str, Any]:
    """Summarize evaluations towards several classes as JSON values.

    Args:
      by_class: from `evaluate_per_class`.

    Returns:
      `success_by_target` (the rate towards each class), `success_mean` over the classes
      and `l2_mean` over the successes; None without any.
    """
    everything = pool(list(by_class.values()))
    successes = everything.counted() & everything.succeeded
    rates = [evaluation.success().rate for evaluation in by_class.values()]
    return {
        "success_by_target": rates,
        "success_mean": float(np.nanmean(rates)),
        "l2_mean": float(everything.l2[successes].mean()) if successes.any() else None,
    }
