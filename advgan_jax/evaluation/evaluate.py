"""Evaluate a model on clean images, on adversarial images, and under attacks."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advgan_jax.checks import check_at_least
from advgan_jax.evaluation._measure import TimedAttack, measure, run_and_measure
from advgan_jax.evaluation._task import check_adversarial, make_task, predict_clean
from advgan_jax.evaluation.result import Evaluation, total_seconds
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
    """Attack a model on a set of images and measure the result.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      attack: a bound attack, for example from `attacks.make_attack`. The arrays of a
        pytree (`jax.tree_util.Partial`) are arguments of the compiled program; those
        that a plain function closes over become constants of it.
      images: `[N, H, W, C]`, uint8 (pixel k means k/255) or float32 within `bounds`.
      labels: int `[N]`, true classes.
      target_labels: int `[N]`, wanted classes; None for an untargeted attack.
      batch_size: how many images to attack at a time; the last batch is padded.
      key: typed key, for attacks that draw random numbers; each batch gets its own.
      bounds: the least and the greatest pixel value.
      keep: how many of the first adversarial images to keep as `examples`.
      progress: whether to show a progress bar (on terminals only).

    Returns:
      The evaluation; its `seconds` exclude compilation and include the padding.

    Raises:
      TypeError: for wrong dtypes, or an attack that is not callable.
      ValueError: for wrong shapes, pixels or classes, logits that are not finite, or
        an attack that returns anything but images within `bounds`.
    """
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    timed = TimedAttack(attack, task, key)
    title = "attack" if progress else None
    return run_and_measure(task, timed, predict_clean(task), keep=keep, title=title)


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
    """Evaluate several attacks, each at several sizes of the perturbation.

    An attack that has a parameter `epsilon` runs with each of `epsilons`, in pixel
    units, and compiles once. If `epsilons` is None, each attack runs as it is bound.
    All attacks get the same key. Other arguments and errors are those of `evaluate`.

    Returns:
      Evaluations by `(name, epsilon)`. The epsilon is None if `epsilons` is None or the
      attack lacks that parameter; `within` then gives its robustness curve.
    """
    for epsilon in () if epsilons is None else epsilons:
        check_at_least("epsilon", epsilon, 0)
    sizes = (None,) if epsilons is None else tuple(map(float, epsilons))
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    clean = predict_clean(task)
    evaluations = {}
    for name, attack in attacks.items():
        timed = TimedAttack(attack, task, key)
        for epsilon in sizes if takes_epsilon(attack) else (None,):
            label = name if epsilon is None else f"{name}, epsilon {epsilon:g}"
            title = label if progress else None
            try:
                evaluations[name, epsilon] = run_and_measure(
                    task, timed, clean, epsilon, keep=keep, title=title
                )
            except (TypeError, ValueError) as error:
                error.add_note(f"In attack {label}.")
                raise
    return evaluations


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
    """Attack a model on all images towards each of `target_classes`, all in `[0, K)`.

    The attack is compiled once, and the clean images are classified once. All classes
    get the same key. The other arguments and the errors are those of `evaluate`.
    """
    evaluations: dict[int, Evaluation] = {}
    timed = clean = None
    for wanted in target_classes:
        target_labels = np.full(len(labels), wanted, np.int32)
        task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
        if timed is None or clean is None:
            timed, clean = TimedAttack(attack, task, key), predict_clean(task)
        title = f"attack towards {wanted}" if progress else None
        evaluations[int(wanted)] = run_and_measure(
            task, timed, clean, keep=keep, title=title
        )
    return evaluations


def takes_epsilon(attack: Attack) -> bool:
    """Return whether an attack can be called with another `epsilon`."""
    known = getattr(attack, "known", None)  # set by `make_attack`
    names = inspect.signature(attack).parameters if known is None else known
    return "epsilon" in names


def evaluate_clean(
    logits_fn: LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model on clean images; arguments and errors as in `evaluate`.

    Returns:
      An untargeted evaluation whose adversarial images are the clean ones: all
      distances are 0. `seconds` and `examples` are None.
    """
    task = make_task(logits_fn, images, labels, None, batch_size, bounds)
    clean = predict_clean(task, "evaluate" if progress else None)
    zeros = np.zeros(len(clean))
    return Evaluation(task.labels, None, clean, clean, zeros, zeros, zeros)


def evaluate_adversarial(
    logits_fn: LogitsFn,
    images: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    *,
    target_labels: np.ndarray | None = None,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
) -> Evaluation:
    """Evaluate a model on adversarial images that exist already.

    `adversarial` are float32 `[N, H, W, C]` within `bounds`, in the order of `images`.
    Other arguments and errors are those of `evaluate`. `seconds` is None.
    """
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    adversarial = np.asarray(adversarial)
    if adversarial.shape != task.images.shape:
        raise ValueError(
            f"`adversarial` must have the shape {list(task.images.shape)} of the "
            f"clean images, got {list(adversarial.shape)}."
        )
    clean = predict_clean(task)
    return measure(task, clean, lambda _, batch: adversarial[batch.index])


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
    """Return the adversarial images that `evaluate` measures, `[N, H, W, C]`.

    Arguments and errors are those of `evaluate`. The images depend on the batch size
    and the key.
    """
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    timed = TimedAttack(attack, task, key)
    parts = [
        check_adversarial(timed(task, None, i, batch), batch, bounds)[batch.mask]
        for i, batch in enumerate(task.batches())
    ]
    return np.concatenate(parts)


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Join evaluations, all targeted or all untargeted, into one of all their images.

    Each counted image has the same weight in the rates. `seconds` is the sum, or None
    if one is unknown. The result has no examples.

    Raises:
      ValueError: if there are none.
    """
    if not evaluations:
        raise ValueError("`evaluations` must contain at least one, got none.")
    columns: dict[str, Any] = {
        field.name: None
        if getattr(evaluations[0], field.name) is None
        else np.concatenate([getattr(e, field.name) for e in evaluations])
        for field in dataclasses.fields(Evaluation)
        if field.name not in ("seconds", "examples")
    }
    return Evaluation(**columns, seconds=total_seconds(evaluations))


def summarize_classes(by_class: Mapping[int, Evaluation]) -> dict[str, Any]:
    """Summarize what `evaluate_per_class` returned as JSON values.

    Returns:
      `success_by_target` (the rate towards each class), `success_mean` over the classes
      and `l2_mean` over the successes, which is None without any.
    """
    everything = pool(list(by_class.values()))
    successes = everything.counted() & everything.succeeded
    rates = [evaluation.success().rate for evaluation in by_class.values()]
    return {
        "success_by_target": rates,
        "success_mean": float(np.nanmean(rates)),
        "l2_mean": float(everything.l2[successes].mean()) if successes.any() else None,
    }
