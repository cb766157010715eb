"""What every run shares: its context, and a training that can be resumed."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from advgan_jax import build, parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import Dataset
from advgan_jax.reporting import MetricsLog
from advgan_jax.training import loop


class Stopped(Exception):
    """The run was interrupted; its state is saved."""


class Run(NamedTuple):
    """What every part of a run needs.

    Attributes:
      config: the resolved configuration.
      workdir: where the run leaves everything.
      dataset: training and test images.
      stop: says whether a signal has asked the run to end.
    """

    config: ConfigDict
    workdir: pathlib.Path
    dataset: Dataset
    stop: Callable[[], bool]


def fit(
    run: Run,
    directory: pathlib.Path,
    section: ConfigDict,
    state: Any,
    step: Callable,
    *,
    description: Mapping[str, Any],
    frozen: tuple[Any, ...] = (),
    title: str,
) -> Any:
    """Trains a state in `directory`, from its last checkpoint if there is one."""
    steps_per_call = section.get("steps_per_call") or parallel.default_steps_per_call()
    plan = build.training_plan(section, run.dataset, steps_per_call)
    with Checkpoints(directory / "checkpoints") as checkpoints:
        if checkpoints.steps():
            state = checkpoints.restore(state)
            checkpoints.discard_after(int(state.step))
        first = int(state.step)
        if first == plan.num_steps:
            return state
        with MetricsLog(directory, restored_step=first or None) as metrics:
            hooks = loop.Hooks(
                log=metrics.write,
                save=lambda step, state: checkpoints.save(step, state, description),
                epochs_per_save=section.get("epochs_per_checkpoint", 1),
                stop=run.stop,
                description=title,
            )
            state, finished = loop.fit(
                state,
                parallel.compile_steps(step, mode=run.config.parallel),
                loop.on_device(run.dataset.train),
                plan,
                order_key=jax.random.key(run.config.seed + 1),
                frozen=frozen,
                hooks=hooks,
            )
    if not finished:
        raise Stopped(f"Stopped at step {int(state.step)} of {title}; saved.")
    return state
