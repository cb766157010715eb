"""Whole train states on disk, through Orbax: all of a state or nothing.

A checkpoint is written in the background into a temporary folder and renamed when it
is complete, so a killed run leaves no half-written one. One that was damaged later is
passed over, with a warning, for the last whole one, and kept aside.

States come and go as arrays of one device. What is on disk knows neither devices nor
processes, so it can be restored on any number of them; with several processes all of
them call every function here, and write to one folder that all of them see.
"""

import itertools
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from advgan_jax import parallel

State = TypeVar("State")
_log = logging.getLogger(__name__)
_ASIDE = "unreadable"  # where damaged checkpoints are kept


class _Manager(ocp.CheckpointManager):
    """Orbax's manager without a mind of its own about when to stop."""

    def reached_preemption(self, step: int) -> bool:
        """Never: whoever asks the runtime moves the point at which all shall stop.

        It is one more than the last number asked with, and Orbax would ask with steps:
        behind the numbers of `parallel.agreed_stop`, which then never come to it.
        """
        del step
        return False


class Checkpoints:
    """The checkpoints of one run; a context manager that ends by finishing writes.

    Each holds the state and a description of the run: plain JSON values, enough to
    build the objects that the state belongs to.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_to_keep: int = 3):
        """Opens a folder of checkpoints, which need not exist yet.

        Args:
          directory: where they are; relative to the working directory or absolute.
          max_to_keep: older checkpoints are deleted.
        """
        # Orbax writes nothing, in silence, where the path is relative.
        self.directory = pathlib.Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max_to_keep, enable_async_checkpointing=True
        )
        self._manager = _Manager(self.directory, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        # What devices or the runtime report may be the loss of another process, for
        # which closing would wait.
        lost = isinstance(error, jax.errors.JaxRuntimeError)
        if not (lost and parallel.num_processes() > 1):
            self.close()

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, run: Mapping[str, Any]) -> None:
        """Writes a state, unless there is one of this step already.

        Args:
          step: how many steps the state has made.
          state: a pytree of arrays. It is copied first: the caller may donate it.
          run: JSON values that describe the run.
        """
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_copy(state)),
            run=ocp.args.JsonSave(dict(run)),
        )
        self._manager.save(step, args=items)

    def describe(self) -> dict[str, Any]:
        """The description of the run, from the latest checkpoint that has it whole.

        Returns:
          What `save` was given as `run`.

        Raises:
          FileNotFoundError: if there is no checkpoint.
          ValueError: if there are some, but all are damaged.
        """
        items = ocp.args.Composite(run=ocp.args.JsonRestore())
        return self._latest_whole(items)[1]["run"]

    def restore(self, like: State) -> State:
        """The latest whole state.

        Args:
          like: a state of the same structure, its leaves arrays or
            `jax.ShapeDtypeStruct`s (from `jax.eval_shape`).

        Returns:
          The state, with the saved values, on one device of this process.

        Raises:
          FileNotFoundError: if there is no checkpoint.
          ValueError: if all are damaged, or the keys are of another kind.
        """
        sharding = parallel.replicated_sharding()
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like
        )
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        step, restored = self._latest_whole(items)
        # Orbax does not compare dtypes: it would give back another kind of key.
        for wanted, got in zip(
            jax.tree.leaves(abstract), jax.tree.leaves(restored["state"]), strict=True
        ):
            if wanted.dtype != got.dtype:
                raise ValueError(
                    f"Checkpoint {step} in {self.directory} has {got.dtype} where "
                    f"{wanted.dtype} is expected; it was saved by other code."
                )
        return parallel.local(restored["state"])

    def _latest_whole(self, items: ocp.args.Composite) -> tuple[int, Any]:
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(
                f"No checkpoint in {self.directory}; expected a folder that a run "
                "has saved to."
            )
        for step in reversed(steps):
            try:
                return step, self._manager.restore(step, args=items)
            # Orbax, TensorStore and JSON each report damage by errors of their own.
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else repr(error)
                _log.warning(
                    "Checkpoint %d in %s cannot be read (%s); trying the one before.",
                    step,
                    self.directory,
                    reason,
                )
        raise ValueError(
            f"None of the checkpoints {steps} in {self.directory} can be read; "
            "delete the folder to start again."
        )

    def set_aside_after(self, step: int) -> None:
        """Moves checkpoints later than `step` away: damaged ones that were passed over.

        They are kept in the folder `unreadable`, and a warning says so.

        Args:
          step: of the latest checkpoint that is left where it is.
        """
        later = [s for s in self.steps() if s > step]
        if not later:
            return
        aside = self.directory / _ASIDE
        parallel.first_alone(lambda: [_move(self.directory, s, aside) for s in later])
        self._manager.reload()
        _log.warning(
            "Checkpoints %s of %s were moved to %s; the run goes on from step %d.",
            later,
            self.directory,
            aside,
            step,
        )


def _copy(state: Any) -> Any:
    """The state in memory of its own, as all processes save it together."""
    # On CPU the writer would share the state's memory, which the next step reuses.
    copied = jax.tree.map(jnp.copy, parallel.local(state))
    return parallel.replicate(copied) if parallel.num_processes() > 1 else copied


def _move(directory: pathlib.Path, step: int, aside: pathlib.Path) -> None:
    """Moves one checkpoint, beside others of its step that were moved before."""
    aside.mkdir(exist_ok=True)
    names = (aside / f"{step}-{number}" for number in itertools.count())
    (directory / str(step)).rename(next(name for name in names if not name.exists()))
