"""Evaluate a model on clean images, on adversarial images, and under attacks."""

import inspect
from collections.abc import Mapping, Sequence

import numpy as np

from advgan_jax.checks import check_at_least
from advgan_jax.evaluation._measure import attack_batches, measure, run_and_measure
from advgan_jax.evaluation._task import check_adversarial, make_task, predict_clean
from advgan_jax.evaluation._timed_attack import TimedAttack
from advgan_jax.evaluation.result import Evaluation
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
      keep: how many adversarial images to keep as `examples`, the first ones.
      progress: whether to show a progress bar (on terminals only).

    Returns:
      The evaluation. Its `seconds` are the attack's time without compilation; they
      include the images of the padding.

    Raises:
      TypeError: for wrong dtypes, or an attack that is not callable.
      ValueError: for wrong shapes, pixels or classes, logits that are not finite, or
        an attack that returns anything but images within `bounds`.
    """
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    timed = TimedAttack(attack, task)
    title = "attack" if progress else None
    clean = predict_clean(task)
    return run_and_measure(task, timed, clean, key, keep=keep, title=title)


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
    units (as an array, so it compiles once). If `epsilons` is None, each attack runs as
    it is bound. All attacks get the same key. The other arguments and the errors are
    those of `evaluate`.

    Returns:
      Evaluations by `(name, epsilon)`. The epsilon is None where `epsilons` is, and for
      attacks without that parameter; see `within` for their robustness curve.

    Raises:
      ValueError: for a negative epsilon, and see `evaluate`.
    """
    for epsilon in () if epsilons is None else epsilons:
        check_at_least("epsilon", epsilon, 0)
    sizes = (None,) if epsilons is None else tuple(map(float, epsilons))
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    clean = predict_clean(task)
    evaluations = {}
    for name, attack in attacks.items():
        timed = TimedAttack(attack, task)
        for epsilon in sizes if takes_epsilon(attack) else (None,):
            label = name if epsilon is None else f"{name}, epsilon {epsilon:g}"
            title = label if progress else None
            try:
                evaluations[name, epsilon] = run_and_measure(
                    task, timed, clean, key, epsilon, keep=keep, title=title
                )
            except (TypeError, ValueError) as error:
                error.add_note(f"In attack {label}.")
                raise
    return evaluations


def takes_epsilon(attack: Attack) -> bool:
    """Return whether an attack has a parameter `epsilon`.

    Args:
      attack: a function, or an attack from `attacks.make_attack`.

    Returns:
      True if the attack can be called with another epsilon.
    """
    known = getattr(attack, "known", None)  # that of `make_attack` lists its own
    return "epsilon" in (
        inspect.signature(attack).parameters if known is None else known
    )


def evaluate_clean(
    logits_fn: LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model on clean images, without an attack.

    Arguments and errors are those of `evaluate`.

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
    The other arguments and the errors are those of `evaluate`.

    Returns:
      The evaluation; its `seconds` are None.
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
    """Return the adversarial images that `evaluate` measures.

    Arguments and errors are those of `evaluate`.

    Returns:
      float32 `[N, H, W, C]`, the same for the same batch size and key.
    """
    task = make_task(logits_fn, images, labels, target_labels, batch_size, bounds)
    make_images = attack_batches(task, TimedAttack(attack, task), key)
    parts = [
        check_adversarial(make_images(i, batch), batch, bounds)[batch.mask]
        for i, batch in enumerate(task.batches())
    ]
    return np.concatenate(parts)
