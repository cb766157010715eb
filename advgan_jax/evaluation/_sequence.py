"""The attacks of AutoAttack, and their run on the images that remain."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from advgan_jax import tracing
from advgan_jax.attacks import BoundAttack, make_attack
from advgan_jax.checks import as_images, largest_distance
from advgan_jax.evaluation import _task
from advgan_jax.evaluation._measure import TimedAttack
from advgan_jax.evaluation._state import ROBUST, State
from advgan_jax.evaluation._task import PaddedBatch, Task
from advgan_jax.numbers import distances
from advgan_jax.progress import progress
from advgan_jax.types import Array, Attack

_NUM_STEPS, _NUM_QUERIES, _NUM_CLASSES = 100, 5000, 9
FEWEST_CLASSES = 4  # of the targeted DLR loss


def make_sequence(
    version: str, names: Sequence[str], norm: str, epsilon: float, num_classes: int
) -> dict[str, BoundAttack]:
    """Return the attacks of a version by name, in this order."""
    ball, steps = {"norm": norm, "epsilon": epsilon}, {"num_steps": _NUM_STEPS}
    in_l1 = version == "standard" and norm == "l1"
    starts = {"num_restarts": 5 if in_l1 or version == "plus" else 1}
    queries = {"num_queries": _NUM_QUERIES, "as_in_autoattack": True}
    restarts = {"num_restarts": 5, "random_start": True} if version == "plus" else {}
    flags = {"stop_at_success": True, "as_in_autoattack": True}
    fast = {**ball, **steps, **starts, **flags}
    enough = {**steps, "norm": norm, "sufficient_distance": epsilon}
    next_classes = {"num_classes_tried": 5 if in_l1 else _NUM_CLASSES}
    of_two = "dlr" if num_classes > 2 else "margin"
    of_few = "dlr" if num_classes >= FEWEST_CLASSES else "margin"
    arguments = {
        "apgd-ce": ("apgd", fast),
        "apgd-dlr": ("apgd", {**fast, "loss": of_two}),
        "apgd-t": ("apgd_targeted", {**ball, **steps, **next_classes, "loss": of_few}),
        "fab": ("fab", {**enough, **restarts}),
        "fab-t": ("fab_targeted", enough),
        "square": ("square", {**ball, **queries}),
    }
    chosen = {name: arguments[name] for name in names}
    return {name: make_attack(kind, **own) for name, (kind, own) in chosen.items()}


VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}


def run_sequence(
    task: Task,
    clean: np.ndarray,
    sequence: Mapping[str, Attack],
    state: State,
    *,
    norm: str,
    epsilon: float,
    key: Array,
    shown: bool,
) -> None:
    """Run all attacks from the state on, and save it after each batch."""
    # The padding is the first image with a label that is wrong, so that it needs no
    # attack.
    wrong = np.int32(clean[0] == 0)
    padded = dataclasses.replace(
        task,
        labels=np.append(task.labels, wrong),
        images=np.concatenate([task.images, task.images[:1]]),
    )
    judge = _judge_of(padded, norm, epsilon)
    for number, (name, attack) in enumerate(sequence.items()):
        if number < state.position[0]:
            continue
        timed = TimedAttack(attack, padded, tracing.fold_in(key, number))
        before = state.seconds[number]
        state.attacked[number] = len(state.pending)
        for i, batch in _batches(padded, state.pending, name, state, shown):
            if i < state.position[1]:
                continue
            found = timed(padded, None, i, batch)
            found = _task.check_adversarial(found, batch, task.bounds)
            rows, classes = judge(batch, found)
            state.predictions[batch.index[rows]] = classes[rows]
            state.adversarial[batch.index[rows]] = found[rows]
            state.broken_by[batch.index[rows]] = number
            state.position[1] = i + 1
            state.seconds[number] = before + timed.seconds
            state.save()
        state.position[:] = number + 1, 0
        state.pending = np.flatnonzero(state.broken_by == ROBUST)
        state.save()


def _batches(
    task: Task, pending: np.ndarray, name: str, state: State, shown: bool
) -> Iterator[tuple[int, PaddedBatch]]:
    """Yield the batches of an attack; the padding is the last image of the task."""
    size = _batch_size(max(len(pending), 1), task.batch_size)
    with progress(len(pending), name, shown=shown) as update:
        for i, start in enumerate(range(0, len(pending), size)):
            rows = pending[start : start + size]
            index = np.full(size, len(task.labels) - 1)
            index[: len(rows)] = rows
            images = np.asarray(as_images(task.images[index], task.bounds))
            yield i, PaddedBatch(images, index, np.arange(size) < len(rows))
            update(len(rows), f"robust={state.robust.mean():.1%}")


def _batch_size(num_images: int, most: int) -> int:
    """Return the size of an attack's batches, so that few images cost little.

    It is the number of images, rounded up to one with three significant bits: at most
    a fifth of a batch is padding, and few sizes are compiled.
    """
    unit = 2 ** max(num_images.bit_length() - 3, 0)
    return min(-(-num_images // unit) * unit, most)


def _judge_of(
    task: Task, norm: str, epsilon: float
) -> Callable[[PaddedBatch, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function of a batch and its adversarial images.

    It returns which of them count, and the classes that the model predicts.
    """
    num_pixels = int(np.prod(task.images.shape[1:]))
    largest = largest_distance(epsilon, task.bounds, norm=norm, num_pixels=num_pixels)

    def _judge(batch: PaddedBatch, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # At one size for all attacks, for which the model is compiled already.
        rows = np.minimum(np.arange(task.batch_size), len(found) - 1)
        whole = PaddedBatch(found[rows], batch.index[rows], batch.mask[rows])
        logits = _task.finite_logits(task, whole, kind="adversarial")[: len(found)]
        size = distances(found, batch.images, norm)
        classes = np.argmax(logits, axis=-1)
        wrong = classes != task.labels[batch.index]
        return batch.mask & wrong & (size <= largest), classes

    return _judge
