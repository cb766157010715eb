"""Training that saves checkpoints and resumes from them.

A training has a folder of checkpoints and metrics. Each checkpoint keeps a description:
every setting on which the state depends. If the checkpoints have another description,
training raises `ValueError`. After a signal it saves the state and raises `Stopped`.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checkpointing import Checkpoints, differences
from advgan_jax.reporting import MetricsLog
from advgan_jax.reporting.training_time import TrainingTimer
from advgan_jax.runs import from_config
from advgan_jax.runs.run import Run
from advgan_jax.training import batches
from advgan_jax.training import fit as host_loop


class Stopped(Exception):
    """A signal interrupted the run; its state is saved."""


def train_with_checkpoints(
    run: Run,
    directory: pathlib.Path,
    section: ConfigDict,
    state: Any,
    step: Callable[..., Any],
    *,
    description: Mapping[str, Any],
    frozen: tuple[Any, ...] = (),
    title: str,
) -> Any:
    """Train a state as a section such as `config.training` specifies, and return it.

    `frozen` holds further arguments of the step; `title` names the progress bar.
    """
    config, train = run.config, run.dataset.train
    plan = from_config.training_plan(section, run.dataset)
    opened = resumable(directory, state, description, num_steps=plan.num_steps)
    with opened as (state, hooks):
        if int(state.step) >= plan.num_steps:
            return state
        is_large = train.num_bytes > config.max_resident_bytes
        state, _ = host_loop.fit(
            state,
            parallel.compile_steps(step, mode=config.parallel),
            batches.Stream(train, config.parallel)
            if is_large
            else host_loop.on_device(train),
            plan,
            order_key=jax.random.key(config.seed + 1),
            frozen=frozen,
            hooks=hooks._replace(
                epochs_per_save=section.epochs_per_checkpoint, description=title
            ),
        )
        # A signal during the last step stops the rest of the run, too.
        stopped = hooks.stop()
    if stopped:
        raise Stopped(f"Stopped at step {int(state.step)} of {title}; saved.")
    return state


@contextlib.contextmanager
def resumable(
    directory: pathlib.Path,
    state: Any,
    description: Mapping[str, Any],
    *,
    num_steps: int | None = None,
) -> Iterator[tuple[Any, host_loop.Hooks]]:
    """Yield the state of the latest checkpoint, or the initial one, and the hooks.

    The hooks log, save and stop; after `num_steps` steps they write nothing.
    """
    with Checkpoints(directory / "checkpoints") as checkpoints:
        if checkpoints.steps():
            differ = differences(checkpoints.describe(), description)
            if differ:
                raise ValueError(
                    f"The checkpoints in {checkpoints.directory} belong to other "
                    f"settings ({'; '.join(differ)}). Discard them with --overwrite, "
                    "or choose another --workdir."
                )
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
            timer = TrainingTimer(directory, first)

            def _save(step: int, state: Any) -> None:
                checkpoints.save(step, state, description)
                timer.write(step)

            yield state, host_loop.Hooks(log=metrics.write, save=_save, stop=stop)
