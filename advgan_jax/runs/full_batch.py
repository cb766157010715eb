"""Full-batch trainings that are done once, and go on where they were interrupted."""

import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from tqdm import tqdm

from advgan_jax import parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.reporting import MetricsLog, replacing
from advgan_jax.runs.training import Stopped
from advgan_jax.training import fit, full_batch
from advgan_jax.training.full_batch import FullBatchState, LossFn
from advgan_jax.types import Batch, Params


def train(
    directory: pathlib.Path,
    section: ConfigDict,
    objective: LossFn,
    params: Params,
    batch: Batch,
    *,
    description: Mapping[str, Any],
    title: str,
) -> Params:
    """Trains to convergence in `directory`, or takes what was trained there before.

    Args:
      directory: of this training alone; `weights.npz` there is its result.
      section: `max_iterations`, `iterations_per_call`, `calls_per_checkpoint`,
        `gradient_tolerance` and `value_tolerance`.
      objective: what to minimise.
      params: fresh weights.
      batch: all training images, float32, with their labels.
      description: what is trained, kept with each checkpoint.
      title: of the progress bar.

    Returns:
      The trained weights.

    Raises:
      Stopped: if a signal came; the state, or the result, is saved.
      DivergenceError: if the loss is not finite.
    """
    weights = directory / "weights.npz"
    if parallel.agreed(weights.exists()):
        return _load(weights)
    with Checkpoints(directory / "checkpoints", max_to_keep=1) as checkpoints:
        state = full_batch.init_state(params)
        if checkpoints.steps():
            state = checkpoints.restore(state)
        state, finished, stopped = _fit(
            state, section, objective, batch, checkpoints, description, title
        )
    if finished:
        _save(weights, state.net.params)
        # Curvature pairs are forty times as large as the weights.
        parallel.first_alone(lambda: shutil.rmtree(directory / "checkpoints"))
    # Also after the last call: what would come next was not wanted either.
    if stopped:
        raise Stopped(f"Stopped at step {int(state.step)} of {title}; saved.")
    return state.net.params


def _fit(
    state: FullBatchState,
    section: ConfigDict,
    objective: LossFn,
    batch: Batch,
    checkpoints: Checkpoints,
    description: Mapping[str, Any],
    title: str,
) -> tuple[FullBatchState, bool, bool]:
    """The state, whether its training is over, and whether a signal came."""
    run = _compiled(objective, section)
    step, most, calls = int(state.step), section.max_iterations, 0
    finished = step >= most
    directory = checkpoints.directory.parent
    with (
        MetricsLog(directory, restored_step=step or None) as log,
        fit.interruptible() as stop,
        tqdm(total=most, initial=step, desc=title, unit=" it", disable=None) as bar,
    ):
        while not finished and not stop():
            state, metrics = run(state, batch)
            metrics = jax.device_get(metrics)
            _check_finite(metrics["loss"], most, title)
            bar.update(int(state.step) - step)
            step, calls = int(state.step), calls + 1
            finished = bool(metrics.pop("converged")) or step >= most
            log.write(step, metrics)
            if not finished and calls % section.calls_per_checkpoint == 0:
                checkpoints.save(step, state, description)
        stopped = stop()
    if not finished:
        checkpoints.save(step, state, description)
    return state, finished, stopped


def _compiled(objective: LossFn, section: ConfigDict) -> Callable:
    return jax.jit(
        full_batch.until_converged(
            full_batch.make_train_step(objective),
            section.iterations_per_call,
            gradient_tolerance=section.gradient_tolerance,
            value_tolerance=section.value_tolerance,
        )
    )


def _check_finite(loss: np.ndarray, most: int, title: str) -> None:
    if not np.isfinite(loss):
        raise fit.DivergenceError(
            f"`loss` became {loss} within {most} iterations of {title}; the checkpoint "
            "before it is kept. Start again with another seed or more weight decay."
        )


def _save(path: pathlib.Path, params: Params) -> None:
    arrays = flatten_dict(jax.device_get(params), sep="/")
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _load(path: pathlib.Path) -> Params:
    with np.load(path) as arrays:
        return jax.device_put(unflatten_dict(dict(arrays), sep="/"))
