"""The state of an AutoAttack run, which a file keeps for a resume."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from advgan_jax import __version__, digest, parallel
from advgan_jax.evaluation._task import Task
from advgan_jax.files import read_npz, reading, writing
from advgan_jax.types import Array

ROBUST, CLEAN = -1, -2
_ROUNDING = 1e-3  # by another device, of the largest logit
_NEW_SLOPES = 0.01  # share of images whose gradient rounding may change at a kink


@dataclasses.dataclass(eq=False)
class State:
    """What is known after some batches of some attacks.

    Attributes:
      path: the file, or None.
      identity: digest of all that decides the result, but for the model.
      logits: the model's, of some clean images, and of these with noise.
      slopes: the lengths of gradients at some clean images; empty if no attack follows
        them.
      adversarial: the images; the clean ones where no attack has succeeded.
      predictions: classes of the adversarial images when they were judged.
      broken_by: number of the attack that succeeded on each image; `ROBUST` so far, or
        `CLEAN` where the clean image is misclassified.
      pending: the images that the current attack runs on, fixed when it begins, so that
        a resumed run has the same batches.
      position: number of the current attack, and of its next batch.
      attacked: number of images of each attack.
      seconds: of each attack.
    """

    path: pathlib.Path | None
    identity: str
    logits: np.ndarray
    slopes: np.ndarray
    adversarial: np.ndarray
    predictions: np.ndarray
    broken_by: np.ndarray
    pending: np.ndarray
    position: np.ndarray
    attacked: np.ndarray
    seconds: np.ndarray

    @property
    def robust(self) -> np.ndarray:
        """Which images no attack has succeeded on, bool `[N]`."""
        return self.broken_by == ROBUST

    def save(self) -> None:
        """Replace the file, if there is one."""
        if self.path is None or not parallel.is_first():
            return
        arrays = {n: getattr(self, n) for n in ("logits", "slopes", *_ARRAYS)}
        # The others are clean, and most of a large data set.
        moved = self.adversarial[self.broken_by >= 0]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.partial.npz")
        with writing(self.path):
            try:
                partial.unlink(missing_ok=True)  # that of a killed run
                with partial.open("xb") as file:
                    name = np.array(self.identity)
                    np.savez(file, identity=name, moved=moved, **arrays)
                os.replace(partial, self.path)
            finally:
                partial.unlink(missing_ok=True)


_ARRAYS = ("predictions", "broken_by", "pending", "position")
_ARRAYS += ("attacked", "seconds")


def open_state(
    path: str | os.PathLike[str] | None,
    task: Task,
    clean: np.ndarray,
    logits: np.ndarray,
    slopes: np.ndarray,
    settings: dict[str, Any],
    key: Array,
) -> State:
    """Return the state in a file; that of a new run if there is none.

    `settings` has the `attacks` in their order, with their arguments. The file must be
    of the same images, labels, settings and key, and of a model with the same `logits`
    and `slopes`, up to the rounding of another device, which may change 1 % of the
    slopes by more.
    """
    images = np.concatenate([batch.images[batch.mask] for batch in task.batches()])
    identity = digest.of_json(
        {
            **{"settings": settings, "bounds": task.bounds, "version": __version__},
            **{"images": digest.of_array(images), "key": digest.of_array(key)},
            **{"labels": digest.of_array(task.labels), "clean": clean.tolist()},
        }
    )
    number = len(settings["attacks"])
    broken_by = np.where(clean == task.labels, ROBUST, CLEAN).astype(np.int8)
    where = None if path is None else pathlib.Path(path).resolve()
    state = State(
        *(
            where,
            identity,
            logits,
            slopes,
            images,
            clean.copy(),
            broken_by,
            np.flatnonzero(broken_by == ROBUST),
        ),
        np.zeros(2, np.int64),
        np.zeros(number, np.int64),
        np.zeros(number),
    )
    if where is not None and parallel.agreed(where.is_file()):
        _load(state, where)
    return state


def _alike(ours: np.ndarray, stored: np.ndarray, most: float) -> bool:
    """Return whether no larger share of the numbers differs by more than rounding."""
    if ours.shape != stored.shape:
        return False
    size = np.abs(ours[np.isfinite(ours)]).max(initial=0)
    close = np.isclose(ours, stored, rtol=0, atol=_ROUNDING * size, equal_nan=True)
    return bool((~close).sum() <= most * close.size)


def _load(state: State, path: pathlib.Path) -> None:
    """Read the file into a new state; raise unless it is of the same evaluation."""
    cure = "delete it, or give another `state_path`"
    with reading(path, "a state of `autoattack`", cure):
        found = read_npz(path)
        for name in _ARRAYS:
            new, old = getattr(state, name), found[name]
            if new.dtype != old.dtype or (name != "pending" and new.shape != old.shape):
                raise ValueError(f"{name} is {old.dtype}{list(old.shape)}")
        moved, broken = found["moved"], found["broken_by"] >= 0
        if (
            moved.dtype != state.adversarial.dtype
            or moved.shape != state.adversarial[broken].shape
        ):
            raise ValueError(f"moved is {moved.dtype}{list(moved.shape)}")
        same = _alike(state.logits, found["logits"], 0.0)
        same &= _alike(state.slopes, found["slopes"], _NEW_SLOPES)
    if str(found["identity"]) != state.identity or not same:
        raise ValueError(
            f"{path} must be the state of this evaluation, got one of other images, "
            f"another model, other settings or another key; {cure}."
        )
    for name in _ARRAYS:
        setattr(state, name, found[name].copy())
    state.adversarial[broken] = moved
