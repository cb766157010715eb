"""Train on the full batch to convergence; an interrupted training resumes."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from advgan_jax.runs.store import PARAMS, Store
from advgan_jax.runs.training import Stopped, resumable
from advgan_jax.training import full_batch
from advgan_jax.training.fit import DivergenceError, Hooks
from advgan_jax.training.full_batch import FullBatchState, LossFn
from advgan_jax.types import Batch, Params


def trained(
    store: Store,
    kind: str,
    depends_on: Mapping[str, Any],
    section: ConfigDict,
    loss_fn: LossFn,
    params: Params,
    batch: Batch,
) -> Params:
    """Return weights from the store, or train `params` and store them.

    A signal raises `Stopped` after the state is saved.
    """
    directory, stopped = store.folder(kind, depends_on), False

    def _train() -> Params:
        nonlocal stopped
        fresh = full_batch.init_state(params)
        with resumable(directory, fresh, depends_on) as (state, hooks):
            state, finished = _fit(state, section, loss_fn, batch, hooks, kind)
            stopped = hooks.stop()
        if not finished:
            raise Stopped(f"Stopped at step {int(state.step)} of {kind}; saved.")
        return state.net.params

    weights = store.get(kind, depends_on, _train, PARAMS)
    # Curvature pairs are forty times as large as the weights.
    store.discard_checkpoints(directory)
    # A signal in the last call stops the rest of the run, too.
    if stopped:
        raise Stopped(f"Stopped after the last step of {kind}; saved.")
    return weights


def _fit(
    state: FullBatchState,
    section: ConfigDict,
    loss_fn: LossFn,
    batch: Batch,
    hooks: Hooks,
    title: str,
) -> tuple[FullBatchState, bool]:
    """Return the state, and whether the training has finished."""
    run = jax.jit(
        full_batch.until_converged(
            full_batch.make_train_step(loss_fn),
            section.iterations_per_call,
            gradient_tolerance=section.gradient_tolerance,
            value_tolerance=section.value_tolerance,
        )
    )
    step, most, calls = int(state.step), section.max_iterations, 0
    finished = step >= most
    with tqdm(total=most, initial=step, desc=title, unit=" it", disable=None) as bar:
        while not finished and not hooks.stop():
            state, metrics = run(state, batch)
            metrics = jax.device_get(metrics)
            if not np.isfinite(metrics["loss"]):
                raise DivergenceError(
                    f"`loss` became {metrics['loss']} within {most} iterations of "
                    f"{title}; the checkpoint before it is kept. Start again with "
                    "another seed or more weight decay."
                )
            bar.update(int(state.step) - step)
            step, calls = int(state.step), calls + 1
            finished = bool(metrics.pop("converged")) or step >= most
            hooks.log(step, metrics)
            if not finished and calls % section.calls_per_checkpoint == 0:
                hooks.save(step, state)
    if not finished:
        hooks.save(step, state)
    return state, finished
