"""AutoAttack: the robust accuracy under a fixed sequence of strong attacks.

Deviations: an attack on an image ends at its first success. Draws differ from those of
the released code. Auto-PGD and FAB step off points without a usable gradient; see also
`apgd`, `fab` and `square`. With two or three classes the targeted Auto-PGD follows the
margin, and a warning says so. Of a randomised model the attacks see the mean logits of
several draws, and so does the verdict; the released code averages gradients and judges
by one draw. In L1 `plus` also shrinks the ball of Auto-PGD, and the bumps of `square`
are those of L2; robust accuracy in L1 has not been compared with the released code.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from advgan_jax import attacks, checks, tracing
from advgan_jax.checks import as_images, unknown_name
from advgan_jax.evaluation import _task
from advgan_jax.evaluation._gradients import gradient_lengths, measure_gradients
from advgan_jax.evaluation._measure import measure
from advgan_jax.evaluation._sequence import (
    FEWEST_CLASSES,
    VERSIONS,
    make_sequence,
    run_sequence,
)
from advgan_jax.evaluation._state import CLEAN, State, open_state
from advgan_jax.evaluation._task import PaddedBatch, Task, make_task, predict_clean
from advgan_jax.evaluation.autoattack_result import AutoAttackResult, Component
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.logits import warn_of_epsilon
from advgan_jax.numbers import ORDERS
from advgan_jax.types import Array, Bounds

_NORMS = ("linf", "l2", "l1")
_NUM_SAMPLES = 20  # draws of a randomised model
_MOST_MASKED = 0.01
# As released: Square finds more than this share only where gradients are masked.
_FOUND_WITHOUT_GRADIENTS = 0.002


def autoattack(
    logits_fn: Callable[..., Array],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    norm: str = "linf",
    epsilon: float,
    key: Array,
    version: str = "standard",
    only: Sequence[str] | None = None,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
    state_path: str | os.PathLike[str] | None = None,
    keep: int = 0,
    progress: bool = False,
) -> AutoAttackResult:
    """Measure robust accuracy by AutoAttack.

    Each attack runs on the images that all earlier ones failed on, in batches of one
    size, for which it is compiled once. Fewer images make smaller batches. An image
    counts as fooled if it is misclassified and within `epsilon` of the clean one.

    Where this library's attacks are stronger than the released code, the sequence
    follows the code: `apgd` and `square` run `as_in_autoattack`, and `fab` and `fab-t`
    without the final bisection.

    ======== ====================================================================
    version  attacks
    ======== ====================================================================
    standard `apgd-ce`, `apgd-t`, `fab-t`, `square`: 100 steps each, for the nine
             most likely wrong classes each, 5,000 queries. In L1 `apgd-ce` starts
             five times, and `apgd-t` tries five classes.
    plus     `apgd-ce` and `apgd-dlr` from five starts, `fab` from five starts,
             `square`, `apgd-t`, `fab-t`.
    rand     `apgd-ce` and `apgd-dlr`, on the mean of 20 draws.
    ======== ====================================================================

    Args:
      logits_fn: the model, `[B, H, W, C] -> [B, K]` logits. For `rand` it takes a key
        as well, `(images, key) -> logits`; see `attacks.expectation`.
      images: `[N, H, W, C]`; see `evaluate`.
      labels: int `[N]`, true classes.
      norm: `linf`, `l2` or `l1`.
      epsilon: the bound, in pixel units of that norm.
      key: one typed PRNG key.
      version: `standard`, `plus` or `rand`.
      only: names of the attacks to run, in this order, with the budgets of the
        version; None: all of the version.
      batch_size: the most images to attack at a time; the last batch is padded.
      bounds: the least and the greatest pixel value.
      state_path: file that keeps the state after each batch, so that the same call
        resumes after a kill; None: no file. The result is the same to the last bit.
      keep: how many of the first adversarial images to keep as `examples`.
      progress: whether to show it, with the robust accuracy so far.

    Returns:
      The result of the whole and of each attack.

    Raises:
      TypeError: for wrong dtypes, or a model of other arguments.
      ValueError: for an unknown version, attack or norm, a repeated attack, wrong
        shapes, pixels or classes, logits that are not finite at clean or noisy images,
        or a state file of another evaluation.

    Warns:
      UserWarning: for a model whose answers change, that returns probabilities, has
        fewer than four classes, or masks its gradients: if that of the margin vanishes
        on more than 1 % of the first batch (unless `square` is the only attack), or if
        `square`, as the last of several, lowers the accuracy by more than 0.2 points.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Sec. 6;
      Croce & Hein, 2021 (https://arxiv.org/abs/2103.01208), for L1.
    """
    checks.check_key("autoattack", key)
    checks.check_at_least("epsilon", epsilon, 0)
    names = _names_of(version, norm, only)
    if version == "rand":
        draws = tracing.fold_in(key, 2**31)
        logits_fn = attacks.expectation(logits_fn, _NUM_SAMPLES, key=draws)
    task = make_task(logits_fn, images, labels, None, batch_size, bounds)
    if "square" in names and task.images.ndim != 4:
        raise ValueError(
            f"`square` needs images [N, H, W, C], got shape {list(task.images.shape)}; "
            "use `evaluate` with the attacks that accept tables."
        )
    warn_of_epsilon(epsilon, bounds, norm=norm, shape=task.images.shape)
    clean = predict_clean(task)
    bound = {"norm": norm, "epsilon": float(epsilon)}
    follows_gradients = any(name != "square" for name in names)
    logits, slopes = _examine(task, follows_gradients, **bound)
    sequence = make_sequence(version, names, norm, float(epsilon), logits.shape[1])
    settings = {**bound, "version": version, "batch_size": task.batch_size}
    settings["attacks"] = [[n, a.name, a.hyperparams] for n, a in sequence.items()]
    state = open_state(state_path, task, clean, logits, slopes, settings, key)
    run_sequence(task, clean, sequence, state, key=key, shown=progress, **bound)
    components = _components(state, list(sequence))
    _warn_of_square(components, len(clean))
    breakers = np.array([*sequence, "clean", ""])  # -2 and -1 are the last two
    return AutoAttackResult(
        evaluation=_measure(task, clean, state, keep),
        components=components,
        adversarial=state.adversarial,
        broken_by=breakers[state.broken_by],
        version=version if tuple(names) == VERSIONS[version] else "custom",
        **bound,
    )


def _names_of(version: str, norm: str, only: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the attacks; raise `ValueError` for wrong arguments."""
    if version not in VERSIONS:
        raise unknown_name("version", version, VERSIONS)
    if norm not in _NORMS:
        raise unknown_name("norm", norm, _NORMS)
    if isinstance(only, str):
        raise TypeError(f"`only` must be a sequence of names, got {only!r}.")
    names = VERSIONS[version] if only is None else tuple(only)
    for name in names:
        if name not in VERSIONS["plus"]:
            raise unknown_name("attack of AutoAttack", name, VERSIONS["plus"])
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"`only` must have at least one attack, each once, got {list(names)}."
        )
    return names


def _measure(task: Task, clean: np.ndarray, state: State, keep: int) -> Evaluation:
    """Measure the images that were found, by the model itself."""

    def _rows(_: int, batch: PaddedBatch) -> np.ndarray:
        return state.adversarial[batch.index]

    found = measure(task, clean, _rows, keep=keep)
    # The verdicts stand: a randomised model might answer differently now.
    return dataclasses.replace(
        found,
        adversarial_predictions=state.predictions,
        seconds=float(state.seconds.sum()),
    )


def _components(state: State, names: list[str]) -> dict[str, Component]:
    """Return what each attack contributed."""
    fooled = [int((state.broken_by == number).sum()) for number in range(len(names))]
    correct = int((state.broken_by != CLEAN).sum())
    left = (correct - np.cumsum(fooled)) / len(state.broken_by)
    columns = (state.attacked, fooled, left, state.seconds)
    rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    return {name: Component(*row) for name, row in zip(names, rows, strict=True)}


def _examine(
    task: Task, follows_gradients: bool, *, norm: str, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and lengths of gradients; warn of what weakens the attacks.

    They are of the images of one batch, the logits also of these with noise within
    epsilon, where models differ that agree on clean images. `ValueError` if the logits
    are not finite.
    """
    # One batch, whose programs are compiled anyway.
    few = dataclasses.replace(
        task,
        images=task.images[: task.batch_size],
        labels=task.labels[: task.batch_size],
        gradients={},
    )
    # Traced anew, because a model may draw numbers on the host.
    anew = dataclasses.replace(few, function=tracing.Function(few.function.fn))
    first, again = (
        np.concatenate([_task.finite_logits(one, b)[b.mask] for b in one.batches()])
        for one in (few, anew)
    )
    finite = np.isfinite(first)
    if not np.array_equal(first[finite], again[finite]):
        _warn(
            "The answers of `logits_fn` change from call to call. Give it a key as its "
            'second argument and use version="rand"; a single answer is no robust '
            "accuracy."
        )
    if first.shape[1] < FEWEST_CLASSES:
        _warn(
            f"The model has {first.shape[1]} classes, fewer than the DLR losses need; "
            "where they do, the margin takes their place."
        )
    noise = np.random.default_rng(0).choice(
        np.array([-1, 1], np.float32), few.images.shape
    )
    noise = epsilon * noise[0].size ** (-1 / ORDERS[norm]) * noise
    noisy = np.clip(as_images(few.images, few.bounds) + noise, *few.bounds)
    noisy = dataclasses.replace(few, images=noisy.astype(np.float32))
    parts = [
        _task.finite_logits(noisy, b, kind="noisy")[b.mask] for b in noisy.batches()
    ]
    logits = np.concatenate([first, *parts])
    if not follows_gradients:
        return logits, np.zeros(0, np.float32)
    marks = measure_gradients(few, "margin")
    masked = float(np.mean(marks["gradient_zero"] | marks["gradient_not_finite"]))
    if masked > _MOST_MASKED:
        _warn(
            "The gradient of the margin vanishes or is not finite on "
            f"{masked:.1%} of the first {len(few.labels)} images: robustness is "
            "overestimated. Attack a smooth copy of the model by `transfer` as well."
        )
    return logits, gradient_lengths(few, "margin")


def _warn_of_square(components: Mapping[str, Component], num_images: int) -> None:
    """Warn if the attack without gradients finds what the earlier ones do not."""
    if len(components) == 1 or [*components][-1] != "square":
        return
    lowered = components["square"].fooled / num_images
    if lowered > _FOUND_WITHOUT_GRADIENTS:
        _warn(
            f"`square`, which needs no gradients, lowers the robust accuracy by "
            f"{lowered:.1%}: gradients may be masked. Use an "
            "attack adapted to the model."
        )


def _warn(message: str) -> None:
    """Warn the caller of `autoattack`."""
    warnings.warn(message, UserWarning, stacklevel=4)
