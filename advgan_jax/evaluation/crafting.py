"""Adversarial images kept: made on one occasion, measured on another."""

import numpy as np

from advgan_jax.evaluation.inputs import check_adversarial, make_task, predict_all
from advgan_jax.evaluation.measuring import attack_batches, measure
from advgan_jax.evaluation.results import Evaluation
from advgan_jax.evaluation.timed import time_attack
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


def assess(
    logits_fn: LogitsFn,
    images: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    *,
    target_labels: np.ndarray | None = None,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
) -> Evaluation:
    """Measures adversarial images that exist already, whoever made them.

    Args:
      logits_fn: the model they are shown to.
      images: clean images, `[N, H, W, C]`, uint8 or float32 within `bounds`.
      adversarial: float32 `[N, H, W, C]` within `bounds`.
      labels: int `[N]`, true classes.
      target_labels: int `[N]`, wanted classes; None for untargeted.
      batch_size: how many images at a time.
      bounds: the least and the greatest pixel value.

    Returns:
      What was measured for each image; `seconds` is None.

    Raises:
      TypeError: for wrong dtypes.
      ValueError: for wrong shapes, pixels or classes, or logits that are not finite.
    """
    task = make_task(
        logits_fn,
        images,
        labels,
        target_labels=target_labels,
        bounds=bounds,
        batch_size=batch_size,
    )
    adversarial = np.asarray(adversarial)
    if adversarial.shape != task.images.shape:
        raise ValueError(
            f"`adversarial` must have the shape {list(task.images.shape)} of the "
            f"clean images, got {list(adversarial.shape)}."
        )
    return measure(task, predict_all(task), lambda _, rows: adversarial[rows.index])


def craft(
    logits_fn: LogitsFn,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    target_labels: np.ndarray | None = None,
    batch_size: int = 500,
    key: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> np.ndarray:
    """The adversarial images that `evaluate` measures, for figures and other models.

    Args:
      logits_fn: the model that is attacked.
      attack: a bound attack.
      images: `[N, H, W, C]`, uint8 or float32 within `bounds`.
      labels: int `[N]`, true classes.
      target_labels: int `[N]`, wanted classes; None for untargeted.
      batch_size: how many images at a time.
      key: typed key, for attacks that draw random numbers.
      bounds: the least and the greatest pixel value.

    Returns:
      float32 `[N, H, W, C]`, the same for the same batch size and key.

    Raises:
      TypeError: as `evaluate`.
      ValueError: as `evaluate`.
    """
    task = make_task(
        logits_fn,
        images,
        labels,
        target_labels=target_labels,
        bounds=bounds,
        batch_size=batch_size,
    )
    produce = attack_batches(task, time_attack(task, attack), key)
    parts = [
        check_adversarial(produce(i, rows), rows, bounds)[rows.mask]
        for i, rows in enumerate(task.batches())
    ]
    return np.concatenate(parts)
