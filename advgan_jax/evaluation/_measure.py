"""The loop of all evaluations: make adversarial images and measure each image once.

Predictions, distances and ranges are recomputed from the images, not taken from the
attack.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from advgan_jax import parallel, tracing
from advgan_jax.attacks import quantize
from advgan_jax.checks import check_key, check_levels
from advgan_jax.evaluation import _task
from advgan_jax.evaluation._bound import bound_of
from advgan_jax.evaluation._gradients import (
    differentiates,
    loss_of,
    measure_gradients,
    warn_of_masked_gradients,
    watch,
)
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.types import Array, Attack


class TimedAttack:
    """An attack on the model of a task, compiled for the shapes of its first batch.

    All devices of all processes share each batch. The compiler divides the work, so
    the random numbers of an image do not depend on the number of devices. `seconds`
    adds up the time of all calls, without compilation and copies to devices. After the
    first call `gradient_loss` names the loss whose gradient the attack follows; None if
    it does not differentiate the model.
    """

    def __init__(self, attack: Attack, task: _task.Task, key: Array | None):
        """Check and bind an attack; all batches share `key`."""
        if not callable(attack):
            raise TypeError(
                "`attack` must be a function (logits_fn, images, labels, *, key, "
                f"targeted, bounds) -> images, got {type(attack).__name__}; "
                "`attacks.make_attack(name)` makes one."
            )
        if key is not None:
            check_key("evaluate", key)
        self.seconds = 0.0
        self.gradient_loss: str | None = None
        self.attack, self._key = attack, key
        self._logits_fn = task.function.fn
        targeted = task.target_labels is not None
        self._settings = {"targeted": targeted, "bounds": task.bounds}
        self._compiled: Callable | None = None

    def __call__(
        self, task: _task.Task, epsilon: float | None, i: int, batch: _task.PaddedBatch
    ) -> Any:
        """Attack the i-th batch of a task with the key `fold_in(key, i)`.

        `epsilon` replaces the attack's own; another value compiles nothing. Images are
        returned in the memory of this host, anything else as the attack returned it.
        """
        labels = task.labels if task.target_labels is None else task.target_labels
        key = None if self._key is None else tracing.fold_in(self._key, i)
        size = {} if epsilon is None else {"epsilon": epsilon}
        settings = parallel.replicate(jax.device_put((key, size)))
        data = parallel.spread((batch.images, labels[batch.index]))
        arguments = (*data, *settings)
        run = self._compile(arguments)
        jax.block_until_ready(arguments)
        start = time.perf_counter()
        adversarial = jax.block_until_ready(run(arguments))
        self.seconds += time.perf_counter() - start
        if getattr(adversarial, "shape", None) != arguments[0].shape:
            return adversarial
        return parallel.fetch(adversarial, len(batch.images))

    def _compile(self, arguments: tuple) -> Callable:
        """Return the compiled attack, its weights bound."""
        if self._compiled is None:
            leaves, structure = jax.tree.flatten(arguments)

            def _call(*leaves: Any) -> Any:
                *data, key, size = jax.tree.unflatten(structure, leaves)
                settings = {**self._settings, **size}  # size: epsilon or nothing
                model = watch(self._logits_fn)
                return self.attack(model, *data, key=key, **settings)

            traced = tracing.Function(_call, "attack").like(*leaves)
            if differentiates(traced):
                self.gradient_loss = loss_of(self.attack)
            weights = parallel.replicate(traced)
            compiled = tracing.executable(_attack, weights, arguments)
            self._compiled = partial(compiled, weights)
        return self._compiled


def _attack(traced: tracing.Traced, arguments: tuple) -> Any:
    return traced(*jax.tree.leaves(arguments))


def run_and_measure(
    task: _task.Task,
    attack: TimedAttack,
    clean_predictions: np.ndarray,
    epsilon: float | None = None,
    *,
    levels: int | None = None,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Run an attack on all batches of a task, and measure its time and gradients."""
    attack.seconds = 0.0
    make_images = partial(attack, task, epsilon)
    rounding = None
    if levels is not None:
        check_levels(levels)
        bound = bound_of(attack.attack)
        size = {"epsilon": bound.epsilon if epsilon is None else epsilon}
        rounding = partial(
            quantize, **size, norm=bound.norm, levels=levels, bounds=task.bounds
        )
    measured = measure(
        task, clean_predictions, make_images, rounding, keep=keep, title=title
    )
    marks = measure_gradients(task, attack.gradient_loss)
    measured = dataclasses.replace(measured, seconds=attack.seconds, **marks)
    warn_of_masked_gradients(measured)
    return measured


def measure(
    task: _task.Task,
    clean_predictions: np.ndarray,
    make_images: Callable[[int, _task.PaddedBatch], Any],
    rounding: Callable[[np.ndarray, np.ndarray], Any] | None = None,
    *,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Make and measure the adversarial images of each batch; keep the first `keep`.

    `rounding`, from adversarial and clean images, makes those that are measured too.
    """
    parts: list[list] = [[]] if rounding is None else [[], []]
    for i, batch in enumerate(task.batches(title)):
        adversarial = _task.check_adversarial(make_images(i, batch), batch, task.bounds)
        versions = [adversarial]
        if rounding is not None:
            versions.append(np.asarray(rounding(adversarial, batch.images)))
        for part, images in zip(parts, versions, strict=True):
            part.append(_measure_batch(task, batch, images, keep))
    labels = (task.labels, task.target_labels, clean_predictions)
    whole, *rounded = (
        Evaluation(
            *(*labels, predictions, linf, l2, rms),
            margin=margin,
            examples=kept,
            bounds=task.bounds,
        )
        for predictions, linf, l2, rms, margin, kept in (
            map(np.concatenate, zip(*part, strict=True)) for part in parts
        )
    )
    return dataclasses.replace(whole, rounded=rounded[0] if rounded else None)


def _measure_batch(
    task: _task.Task, batch: _task.PaddedBatch, adversarial: np.ndarray, keep: int
) -> list[np.ndarray]:
    """Return predictions, distances, margins and the first images without padding."""
    changed = batch._replace(images=adversarial)
    logits = _task.finite_logits(task, changed, kind="adversarial")
    predictions = np.argmax(logits, axis=-1).astype(np.int32)
    # In double precision: the difference of two float32 pixels is then exact.
    change = np.subtract(adversarial, batch.images, dtype=np.float64)
    change = change.reshape(len(change), -1)
    linf, l2 = np.abs(change).max(axis=1), np.sqrt(np.square(change).sum(axis=1))
    rms, margin = l2 / np.sqrt(change.shape[1]), _margins(task, batch, logits)
    measured = (predictions, linf, l2, rms, margin)
    kept = adversarial[batch.mask & (batch.index < keep)]
    return [*(column[batch.mask] for column in measured), kept]


def _margins(task: _task.Task, batch: _task.PaddedBatch, logits: Any) -> np.ndarray:
    """Return by how many logits an attack succeeds on each image."""
    targets = task.target_labels
    aims = (task.labels if targets is None else targets)[batch.index]
    rows = np.arange(len(logits))
    own, others = logits[rows, aims], np.array(logits)
    others[rows, aims] = -np.inf
    margin = others.max(axis=1) - own
    return margin if targets is None else -margin
