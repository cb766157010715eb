"""The loop of all evaluations: make adversarial images and measure each image once.

It trusts no attack: predictions, distances and ranges are recomputed from the images.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from advgan_jax import parallel
from advgan_jax.checks import check_key
from advgan_jax.evaluation import _task
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.logits import as_pytree
from advgan_jax.types import Array, Attack


class TimedAttack:
    """An attack on the model of a task, compiled for the shapes of its first batch.

    All devices of all processes share each batch. The compiler divides the work, so
    the random numbers of an image do not depend on the number of devices. `seconds`
    adds up the time of all calls, without compilation and copies to devices.
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
        self._attack, self._key = attack, key
        self._logits_fn = task.logits_fn
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
        key = None if self._key is None else jax.random.fold_in(self._key, i)
        size = {} if epsilon is None else {"epsilon": epsilon}
        settings = parallel.replicate(jax.device_put((key, size)))
        data = parallel.spread((batch.images, labels[batch.index]))
        arguments = (*data, *settings)
        run = self._compile(arguments)
        jax.block_until_ready(arguments)
        start = time.perf_counter()
        adversarial = jax.block_until_ready(run(*arguments))
        self.seconds += time.perf_counter() - start
        if getattr(adversarial, "shape", None) != arguments[0].shape:
            return adversarial
        return parallel.fetch(adversarial, len(batch.images))

    def _compile(self, arguments: tuple) -> Callable:
        """Return the compiled attack, its weights bound."""
        if self._compiled is None:

            def _call(attack: Any, *inputs: Any) -> Any:
                *data, key, size = inputs  # `size` contains epsilon or nothing
                return attack(*data, key=key, **self._settings, **size)

            attack = self._attack
            if jax.tree_util.all_leaves([attack]):
                # A function of its own has a hash, which a data class may lack.
                attack = Partial(lambda *args, **named: self._attack(*args, **named))
            weights = parallel.replicate((attack, as_pytree(self._logits_fn)))
            compiled = jax.jit(_call).lower(*weights, *arguments).compile()
            self._compiled = partial(compiled, *weights)
        return self._compiled


def run_and_measure(
    task: _task.Task,
    attack: TimedAttack,
    clean_predictions: np.ndarray,
    epsilon: float | None = None,
    *,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Run an attack on all batches of a task; the evaluation includes its time."""
    attack.seconds = 0.0
    make_images = partial(attack, task, epsilon)
    measured = measure(task, clean_predictions, make_images, keep=keep, title=title)
    return dataclasses.replace(measured, seconds=attack.seconds)


def measure(
    task: _task.Task,
    clean_predictions: np.ndarray,
    make_images: Callable[[int, _task.PaddedBatch], Any],
    *,
    keep: int = 0,
    title: str | None = None,
) -> Evaluation:
    """Make and measure the adversarial images of each batch; keep the first `keep`."""
    columns, kept = [], []
    for i, batch in enumerate(task.batches(title)):
        adversarial = _task.check_adversarial(make_images(i, batch), batch, task.bounds)
        changed = batch._replace(images=adversarial)
        logits = _task.finite_logits(task, changed, kind="adversarial")
        predictions = np.argmax(logits, axis=-1).astype(np.int32)
        # In double precision: the difference of two float32 pixels is then exact.
        change = np.subtract(adversarial, batch.images, dtype=np.float64)
        change = change.reshape(len(change), -1)
        linf, l2 = np.abs(change).max(axis=1), np.sqrt(np.square(change).sum(axis=1))
        measured = (predictions, linf, l2, l2 / np.sqrt(change.shape[1]))
        columns.append([column[batch.mask] for column in measured])
        kept.append(adversarial[batch.mask & (batch.index < keep)])
    predictions, linf, l2, rms = map(np.concatenate, zip(*columns, strict=True))
    return Evaluation(
        *(task.labels, task.target_labels, clean_predictions, predictions),
        *(linf, l2, rms),
        examples=np.concatenate(kept),
    )
