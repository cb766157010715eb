"""Evaluate a model on clean images, on adversarial images, and under attacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from advgan_jax.checks import check_at_least, to_float
from advgan_jax.evaluation._bound import bound_of, takes_epsilon
from advgan_jax.evaluation._measure import TimedAttack, measure, run_and_measure
from advgan_jax.evaluation._task import (
    PaddedBatch,
    check_adversarial,
    make_task,
    predict_clean,
)
from advgan_jax.evaluation.combine import pool
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.logits import warn_of_epsilon
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
    levels: int | None = None,
    keep: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Attack a model on a set of images and measure the result.

    If the attack differentiates the model, the evaluation also marks the images on
    which gradients are masked. These are gradients at the clean images, before the
    attack, of its own `loss`: the margin if it has none, as in the searches, and the
    cross-entropy for a function that `make_attack` did not make. The cost is one
    gradient per image and loss. `seconds` does not include it.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      attack: a bound attack, for example from `attacks.make_attack`. The arrays of a
        pytree (`jax.tree_util.Partial`) are arguments of the compiled program; those
        that a plain function closes over become constants of it.
      images: `[N, H, W, C]`, or `[N, ...]` of any rank if the attack accepts it; floats
        within `bounds`, or uint8: 0 means the least and 255 the greatest of `bounds`.
      labels: int `[N]`, true classes.
      target_labels: int `[N]`, wanted classes; None for an untargeted attack.
      batch_size: how many images to attack at a time; the last batch is padded.
      key: typed key, for attacks that draw random numbers; each batch gets its own.
      bounds: the least and the greatest pixel value.
      levels: number of grey levels, 256 for files of 8 bits; the images are then
        measured once more after `attacks.quantize` rounded them, within the attack's
        epsilon if it has one. See `Evaluation.rounded`.
      keep: how many of the first adversarial images to keep as `examples`.
      progress: whether to show it, by a bar on terminals or by lines.

    Returns:
      The evaluation; its `seconds` exclude compilation and include the padding.

    Warns:
      UserWarning: if the gradient is zero or not finite on more than 1 % of the images
        that the success rate counts.

    Raises:
      TypeError: for wrong dtypes, or an attack that is not callable.
      ValueError: for wrong shapes, pixels or classes, logits that are not finite, or
        an attack that returns anything but images within `bounds`.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from advgan_jax import attacks
      >>> weights = jnp.array([[1.0, -1.0]] * 4)
      >>> model = lambda images: (images.reshape(len(images), -1) - 0.5) @ weights
      >>> images = np.array([0.4, 0.55, 0.6, 0.9], np.float32)[:, None, None, None]
      >>> images = np.broadcast_to(images, (4, 2, 2, 1))
      >>> fgsm = attacks.make_attack("fgsm", epsilon=0.2)
      >>> result = evaluate(model, fgsm, images, np.array([1, 0, 0, 0]))
      >>> result.clean_accuracy, result.robust_accuracy
      (1.0, 0.25)
      >>> success = result.success()
      >>> print(f"{success.successes} of {success.trials}")
      3 of 4
    """
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    timed = TimedAttack(attack, task, key)
    options: Any = {"keep": keep, "title": "attack" if progress else None}
    return run_and_measure(task, timed, predict_clean(task), levels=levels, **options)


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
    levels: int | None = None,
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
    sizes = (None,) if epsilons is None else _check_sizes(epsilons)
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    clean = predict_clean(task)
    evaluations = {}
    for name, attack in attacks.items():
        timed = TimedAttack(attack, task, key)
        for epsilon in sizes if takes_epsilon(attack) else (None,):
            label = name if epsilon is None else f"{name}, epsilon {epsilon:g}"
            title = label if progress else None
            if epsilon is not None:
                norm, shape = bound_of(attack).norm, task.images.shape
                warn_of_epsilon(epsilon, bounds, norm=norm, shape=shape)
            try:
                evaluations[name, epsilon] = run_and_measure(
                    *(task, timed, clean, epsilon),
                    levels=levels,
                    keep=keep,
                    title=title,
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
    levels: int | None = None,
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
            task, timed, clean, levels=levels, keep=keep, title=title
        )
    return evaluations


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
      distances are 0. `seconds`, `examples` and `margin` are None.
    """
    task = make_task(logits_fn, images, labels, None, batch_size, bounds)
    clean = predict_clean(task, "evaluate" if progress else None)
    zeros = np.zeros(len(clean))
    distances = (zeros, zeros, zeros)
    return Evaluation(task.labels, None, clean, clean, *distances, bounds=task.bounds)


def evaluate_adversarial(
    logits_fn: LogitsFn,
    images: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    *,
    target_labels: np.ndarray | None = None,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
    keep: int = 0,
) -> Evaluation:
    """Evaluate a model on adversarial images that exist already.

    `adversarial` are images like the clean ones, `[N, H, W, C]`, and in their order.
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

    def _rows(_: int, batch: PaddedBatch) -> np.ndarray:
        return to_float(adversarial[batch.index], bounds, name="adversarial")

    return measure(task, clean, _rows, keep=keep)


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


def _check_sizes(epsilons: Any) -> tuple[float, ...]:
    """Return sizes of perturbations as Python numbers."""
    if isinstance(epsilons, str) or not np.iterable(epsilons):
        raise TypeError(
            f"`epsilons` must be several numbers, such as `(0.1, 0.2)`, got "
            f"{epsilons!r}; put a single one into a tuple."
        )
    sizes = tuple(epsilons)
    for epsilon in sizes:
        check_at_least("epsilon", epsilon, 0)
    return tuple(float(jax.device_get(epsilon)) for epsilon in sizes)
