"""Training that saves checkpoints and can be resumed."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.reporting import MetricsLog
from advgan_jax.runs import from_config
from advgan_jax.runs.run import Run
from advgan_jax.runs.training_time import Clock
from advgan_jax.runs.workdir import differences
from advgan_jax.training import batches
from advgan_jax.training import fit as host_loop
from advgan_jax.types import Batch

State = TypeVar("State")


class Stopped(Exception):
    """The run was interrupted; its state is saved."""


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
    """Trains a state in `directory`, from its last checkpoint if there is one.

    Args:
      run: the run that needs it.
      directory: of the checkpoints and metrics.
      section: how long to train; `config.target_training` or `config.training`.
      state: fresh.
      step: the pure training step.
      description: what the state is, kept with each checkpoint.
      frozen: further arguments of the step.
      title: of the progress bar.

    Returns:
      The trained state.

    Raises:
      Stopped: if a signal came; the state is saved.
      ValueError: if the checkpoints are those of something else.
    """
    plan = from_config.training_plan(section, run.dataset)
    opened = resumable(directory, state, description, num_steps=plan.num_steps)
    with opened as (state, hooks):
        if int(state.step) >= plan.num_steps:
            return state
        state, _ = host_loop.fit(
            state,
            parallel.compile_steps(step, mode=run.config.parallel),
            _training_images(run),
            plan,
            order_key=jax.random.key(run.config.seed + 1),
            frozen=frozen,
            hooks=hooks._replace(
                epochs_per_save=section.epochs_per_checkpoint, description=title
            ),
        )
        # Also after the last step: what would come next was not wanted either.
        stopped = hooks.stop()
    if stopped:
        raise Stopped(f"Stopped at step {int(state.step)} of {title}; saved.")
    return state


def _training_images(run: Run) -> Batch | batches.Stream:
    """On the devices where they are few enough, else to be read while training."""
    train, config = run.dataset.train, run.config
    if train.num_bytes > config.max_resident_bytes:
        return batches.Stream(train, config.parallel)
    return host_loop.on_device(train)


@contextlib.contextmanager
def resumable(
    directory: pathlib.Path,
    state: State,
    description: Mapping[str, Any],
    *,
    num_steps: int | None = None,
) -> Iterator[tuple[State, host_loop.Hooks]]:
    """Opens what a training needs to be resumed.

    Args:
      directory: of the checkpoints and metrics.
      state: fresh; has a `step`.
      description: what the state is, kept with each checkpoint.
      num_steps: of the whole training: once they are made nothing is written. None:
        there is something to log even then.

    Yields:
      The state as it was saved last, or else as given; and hooks that log, save and
      stop.

    Raises:
      ValueError: if the checkpoints are those of something else.
    """
    with Checkpoints(directory / "checkpoints") as checkpoints:
        if checkpoints.steps():
            _check_same(checkpoints, description)
            state = checkpoints.restore(state)
            checkpoints.set_aside_after(int(state.step))
        first = int(state.step)
        if num_steps is not None and first >= num_steps:
            yield state, host_loop.Hooks()
            return
        with (
            MetricsLog(directory, restored_step=first or None) as metrics,
            host_loop.interruptible() as stop,
        ):
            clock = Clock(directory, first)
            save = _timed_save(checkpoints, description, clock)
            yield state, host_loop.Hooks(log=metrics.write, save=save, stop=stop)


def _timed_save(
    checkpoints: Checkpoints, description: Mapping[str, Any], clock: Clock
) -> Callable[[int, Any], None]:
    def save(step: int, state: Any) -> None:
        checkpoints.save(step, state, description)
        clock.write(step)

    return save


def _check_same(checkpoints: Checkpoints, description: Mapping[str, Any]) -> None:
    """Refuses checkpoints of a state that is described otherwise."""
    ours = json.loads(json.dumps(description))
    differ = differences(checkpoints.describe(), ours)
    if differ:
        raise ValueError(
            f"The checkpoints in {checkpoints.directory} are of something else "
            f"({'; '.join(differ)}). Discard them with --overwrite, or choose another "
            "--workdir."
        )
