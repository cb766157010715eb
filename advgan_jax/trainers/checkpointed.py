"""Training that saves checkpoints and resumes from them, or stays in memory.

A training has a folder of checkpoints and metrics. Each checkpoint keeps a description:
every setting on which the state depends. If the checkpoints have another description,
training raises `ValueError`. After a signal it saves the state and raises `Stopped`.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from advgan_jax import parallel
from advgan_jax.checkpointing import Checkpoints, differences
from advgan_jax.data import Split
from advgan_jax.reporting import MetricsLog
from advgan_jax.reporting.logs import METRICS
from advgan_jax.reporting.training_time import TrainingTimer
from advgan_jax.training import batches
from advgan_jax.training import fit as host_loop
from advgan_jax.training.precision import DEFAULT_DTYPE
from advgan_jax.types import Array

Callback = Callable[[int, Mapping[str, float]], None]


class Stopped(Exception):
    """A signal interrupted the training; its state is saved."""


class Options(NamedTuple):
    """Options of all trainers; most decide how and where a training runs.

    Attributes:
      workdir: the folder of checkpoints, metrics and figures; None keeps the training
        in memory, and an interruption loses it.
      callback: called with the number of steps and the mean metrics, as they are
        logged: at the end of an epoch, for each 50 steps.
      progress: whether to show it, by a bar on terminals or by lines.
      parallel: a mode of `parallel.choose_mode`.
      compute_dtype: in which networks multiply, see `training.precision`.
      max_resident_bytes: a larger training set is read during training and not kept on
        the devices.
      steps_per_call: steps in one compiled call; None chooses by platform.
      epochs_per_checkpoint: epochs between two checkpoints; None saves about ten.
      order_key: key of the shuffles; None derives it from the key of the training.
      description: JSON values of every setting that decides the weights; None makes it
        from the arguments.
      name: for the record, see `TrainedOn`; None takes the model's.
      wait: whether to wait while another process uses the `workdir`, see
        `parallel.locked`; otherwise the training is refused.
    """

    workdir: pathlib.Path | None = None
    callback: Callback | None = None
    progress: bool = True
    parallel: str = "auto"
    compute_dtype: str = DEFAULT_DTYPE
    max_resident_bytes: int = 2 * 2**30
    steps_per_call: int | None = None
    epochs_per_checkpoint: int | None = None
    order_key: Array | None = None
    description: Mapping[str, Any] | None = None
    name: str | None = None
    wait: bool = False

    def plan(self, num_images: int, batch_size: int, num_epochs: int) -> host_loop.Plan:
        """Plan a training; `ValueError` for numbers that do not fit the images."""
        per_call = self.steps_per_call or parallel.default_steps_per_call()
        return host_loop.Plan(num_images, batch_size, num_epochs, per_call)


def train(
    options: Options,
    state: Any,
    step: Callable[..., Any],
    images: Split,
    plan: host_loop.Plan,
    *,
    frozen: tuple[Any, ...] = (),
    title: str,
    monitor: Callable[[Any], Mapping[str, float]] | None = None,
) -> Any:
    """Train a state from its latest checkpoint to the end of a plan, and return it.

    `frozen` holds further arguments of the step, and `title` names the progress bar.
    `monitor` returns metrics of a state, which are logged whenever it is saved. The
    options have an order key, and a description if they have a workdir.
    """
    per_save = options.epochs_per_checkpoint or max(1, plan.num_epochs // 10)
    order_key: Any = options.order_key
    opened = resumable(options, state, num_steps=plan.num_steps)
    with opened as (state, hooks):
        if int(state.step) >= plan.num_steps:
            return state

        def _save(step: int, state: Any) -> None:
            if monitor is not None:
                hooks.log(step, monitor(state))
            hooks.save(step, state)

        is_large = images.num_bytes > options.max_resident_bytes
        state, finished = host_loop.fit(
            state,
            parallel.compile_steps(step, mode=options.parallel),
            batches.Stream(images, options.parallel)
            if is_large
            else host_loop.on_device(images),
            plan,
            order_key=order_key,
            frozen=frozen,
            hooks=hooks._replace(
                save=_save, epochs_per_save=per_save, description=title
            ),
        )
        # A signal during the last step stops the rest of the run, too.
        stopped = hooks.stop()
    if stopped or not finished:
        raise Stopped(f"Stopped at step {int(state.step)} of {title}; saved.")
    return state


@contextlib.contextmanager
def resumable(
    options: Options, state: Any, *, num_steps: int | None = None
) -> Iterator[tuple[Any, host_loop.Hooks]]:
    """Yield the state of the latest checkpoint, or the initial one, and the hooks.

    The hooks log, save and stop; after `num_steps` steps they write nothing.
    """
    log = options.callback or (lambda step, metrics: None)
    hooks = host_loop.Hooks(log=log, progress=options.progress)
    if options.workdir is None:
        yield state, hooks
        return
    description = options.description or {}
    _check_owner(options.workdir)
    with (
        parallel.locked(options.workdir, wait=options.wait),
        Checkpoints(options.workdir / "checkpoints") as checkpoints,
    ):
        state = _restore(checkpoints, state, description)
        first = int(state.step)
        if num_steps is not None and first >= num_steps:
            yield state, host_loop.Hooks()
            return
        with (
            MetricsLog(options.workdir, restored_step=first or None) as metrics,
            host_loop.interruptible() as stop,
        ):
            timer = TrainingTimer(options.workdir, first)

            def _log(step: int, values: Mapping[str, float]) -> None:
                metrics.write(step, values)
                log(step, values)

            def _save(step: int, state: Any) -> None:
                checkpoints.save(step, state, description)
                timer.write(step)

            yield state, hooks._replace(log=_log, save=_save, stop=stop)


def _check_owner(workdir: pathlib.Path) -> None:
    """Raise `ValueError` for a log of somebody else's, which a new one would replace.

    A training makes the folder of its checkpoints before it writes a log.
    """
    log = workdir / METRICS
    if parallel.agreed(log.exists() and not (workdir / "checkpoints").is_dir()):
        raise ValueError(
            f"{workdir} has {METRICS} but no checkpoints: it may be somebody else's; "
            "choose another workdir, or move the file away."
        )


def _restore(
    checkpoints: Checkpoints, state: Any, description: Mapping[str, Any]
) -> Any:
    """Return the latest state, or the given one without any; check the description."""
    if not checkpoints.steps():
        return state
    differ = differences(checkpoints.describe(), description)
    if differ:
        raise ValueError(
            f"The checkpoints in {checkpoints.directory} belong to other settings "
            f"({'; '.join(differ)}). Choose another workdir, or delete this one (a "
            "command: --overwrite)."
        )
    state = checkpoints.restore(state)
    checkpoints.set_aside_after(int(state.step))
    return state
