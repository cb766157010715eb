"""Robustness of a model under attacks that are run here and now."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence

import numpy as np

from advgan_jax.checks import check_at_least
from advgan_jax.evaluation.inputs import make_task, predict_all
from advgan_jax.evaluation.measuring import attack_batches, measure
from advgan_jax.evaluation.results import Evaluation
from advgan_jax.evaluation.timed import time_attack
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


def evaluate(
    logits_fn: LogitsFn,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    target_labels: np.ndarray | None = None,
    batch_size: int = 500,
    key: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    keep: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Attacks a model on a set of images.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      attack: a bound attack, from `attacks.make_attack` say; see `TimedAttack`.
      images: `[N, H, W, C]`, uint8 (pixel k means k/255) or float32 within `bounds`.
      labels: int `[N]`, true classes.
      target_labels: int `[N]`, wanted classes; None for an untargeted attack.
      batch_size: how many images at a time; the last batch is filled up.
      key: typed key, for attacks that draw random numbers; each batch gets its own.
      bounds: the least and the greatest pixel value.
      keep: how many adversarial images to keep as `examples`, the first ones.
      progress: whether to show a bar (never where there is no terminal).

    Returns:
      What was measured for each image. `seconds` is the attack's time, filled-up images
      included, without compilation.

    Raises:
      TypeError: for wrong dtypes, or an attack that cannot be called.
      ValueError: for wrong shapes, pixels or classes, logits that are not finite, or
        an attack that returns anything but images within `bounds`.
    """
    task = make_task(
        logits_fn,
        images,
        labels,
        target_labels=target_labels,
        bounds=bounds,
        batch_size=batch_size,
    )
    timed = time_attack(task, attack)
    produce = attack_batches(task, timed, key)
    title = "attack" if progress else None
    measured = measure(task, predict_all(task), produce, keep=keep, title=title)
    return dataclasses.replace(measured, seconds=timed.seconds)


def evaluate_many(
    logits_fn: LogitsFn,
    attacks: Mapping[str, Attack],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilons: Sequence[float] | None = None,
    target_labels: np.ndarray | None = None,
    batch_size: int = 500,
    key: Array | None = None,
    bounds: Bounds = (0.0, 1.0),
    keep: int = 0,
    progress: bool = False,
) -> dict[tuple[str, float | None], Evaluation]:
    """Several attacks, each at several sizes of the perturbation.

    Args:
      logits_fn: the attacked model.
      attacks: bound attacks by name. One that names `epsilon` among its parameters is
        called with each of `epsilons` (as an array, so it compiles once).
      images: `[N, H, W, C]`, uint8 or float32 within `bounds`.
      labels: int `[N]`, true classes.
      epsilons: in pixel units; None leaves each attack as it is bound.
      target_labels: int `[N]`, wanted classes; None for untargeted.
      batch_size: how many images at a time.
      key: typed key; all attacks get the same.
      bounds: the least and the greatest pixel value.
      keep: how many adversarial images to keep as `examples`, the first ones.
      progress: whether to show bars.

    Returns:
      Evaluations by `(name, epsilon)`; epsilon is None for attacks that take none (see
      `within` for these) and where `epsilons` is None.

    Raises:
      TypeError: as `evaluate`.
      ValueError: as `evaluate`, or for a negative epsilon.
    """
    for epsilon in () if epsilons is None else epsilons:
        check_at_least("epsilon", epsilon, 0)
    sizes = (None,) if epsilons is None else tuple(map(float, epsilons))
    task = make_task(
        logits_fn,
        images,
        labels,
        target_labels=target_labels,
        bounds=bounds,
        batch_size=batch_size,
    )
    clean_predictions = predict_all(task)
    evaluations = {}
    for name, attack in attacks.items():
        timed = time_attack(task, attack)
        for epsilon in sizes if takes_epsilon(attack) else (None,):
            label = name if epsilon is None else f"{name}, epsilon {epsilon:g}"
            produce = attack_batches(task, timed, key, epsilon)
            timed.seconds = 0.0
            try:
                measured = measure(
                    task,
                    clean_predictions,
                    produce,
                    keep=keep,
                    title=label if progress else None,
                )
            except (TypeError, ValueError) as error:
                error.add_note(f"In attack {label}.")
                raise
            evaluations[name, epsilon] = dataclasses.replace(
                measured, seconds=timed.seconds
            )
    return evaluations


def takes_epsilon(attack: Attack) -> bool:
    """Whether `epsilon` is among an attack's parameters.

    Args:
      attack: a function, or one of `attacks.make_attack`, which says what is `known`.

    Returns:
      True if it can be called with another epsilon.
    """
    known = getattr(attack, "known", None)
    return "epsilon" in (
        inspect.signature(attack).parameters if known is None else known
    )
