"""Train states on disk, through Orbax: a checkpoint is complete or absent.

A checkpoint is written in the background into a temporary folder and renamed when it
is complete. So a killed run keeps no partial one. Its metadata contains a digest of
every array. If a checkpoint was damaged later, `restore` warns and reads the latest
undamaged one, and a run moves the damaged one to the folder `unreadable`.

States are saved from and restored to one device. Files do not depend on the number of
devices or processes, so any number of them can restore a state. With several processes
all of them call every function here, and all of them see the same folder.
"""

import contextlib
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from advgan_jax import digest, parallel
from advgan_jax.files import one_line

_log = logging.getLogger(__name__)
_ASIDE = "unreadable"  # the folder of damaged checkpoints
_WEIGHTS = {"params", "batch_stats"}  # must be finite, unlike an optimiser's state


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, which does not decide when to stop."""

    def reached_preemption(self, step: int) -> bool:
        """Return False: a call to the runtime would move the step at which all stop."""
        # The runtime stops all processes one number after the last number that any of
        # them called it with. Orbax would call it with steps, which are larger than the
        # numbers of `parallel.agreed_stop`, so these would never reach the stop.
        del step
        return False


class Checkpoints:
    """The checkpoints of one training; a context manager that waits for writes.

    Each checkpoint contains the state and a description: JSON values that specify what
    was trained and on which settings it depends.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_to_keep: int = 3):
        """Open or create a folder; only the last `max_to_keep` checkpoints are kept."""
        # With a relative path Orbax writes nothing and raises nothing.
        self.directory: pathlib.Path = pathlib.Path(directory).absolute()
        self._damaged: set[int] = set()  # steps that a warning has named
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max_to_keep, enable_async_checkpointing=True
        )
        # With handlers, the manager can read the structure of a state from its files.
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "run": ocp.JsonCheckpointHandler(),
        }
        self._manager = _Manager(
            self.directory, options=options, item_handlers=handlers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        # A runtime error may mean that another process is lost. Closing would wait.
        lost = isinstance(error, jax.errors.JaxRuntimeError)
        if not (lost and parallel.num_processes() > 1):
            self.close()

    def close(self) -> None:
        """Wait until all checkpoints are written; `OSError` if one cannot be."""
        with self._writing():
            self._manager.close()

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, description: Mapping[str, Any]) -> None:
        """Write a state after `step` steps, unless this step has a checkpoint already.

        The state is copied first, so the caller may donate it.

        Raises:
          OSError: if this checkpoint, or the one before, cannot be written.
        """
        if step in self._manager.all_steps():
            return
        arrays = digest.of_arrays(parallel.local(state))
        run = digest.seal({"description": dict(description), "arrays": arrays})
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_copy(state)), run=ocp.args.JsonSave(run)
        )
        with self._writing():
            self._manager.save(step, args=items)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise one line in place of Orbax's errors, which fill a page."""
        try:
            yield
        except jax.errors.JaxRuntimeError:  # another process may be lost
            raise
        except Exception as error:
            raise OSError(
                f"A checkpoint cannot be written to {self.directory} "
                f"({one_line(error)}); make room on the disk and resume the run. The "
                "checkpoints before it are kept."
            ) from error

    def describe(self) -> dict[str, Any]:
        """Return the description in the latest undamaged checkpoint.

        Raises:
          FileNotFoundError: if there is no checkpoint.
          ValueError: if all checkpoints are damaged.
        """
        return self._latest_whole(lambda step: {})[1]["run"]["description"]

    def restore(self, like: Any = None) -> Any:
        """Return the latest undamaged state.

        Args:
          like: a state of the same structure, its leaves arrays or
            `jax.ShapeDtypeStruct`s (from `jax.eval_shape`). None: the structure is
            read from the checkpoint.

        Returns:
          The saved values on one device of this process, in the structure of `like`;
          without it, nested dictionaries by the names of the state's fields.

        Raises:
          FileNotFoundError: if there is no checkpoint.
          ValueError: if all checkpoints are damaged, or a dtype differs.
        """

        def _items(step: int) -> dict[str, Any]:
            given = like
            if like is None:
                given = self._manager.item_metadata(step)["state"].tree
            return {"state": ocp.args.StandardRestore(_abstract(given))}

        step, restored = self._latest_whole(_items)
        if like is not None:
            self._check_dtypes(step, like, restored["state"])
        return restored["state"]

    def _check_dtypes(self, step: int, like: Any, state: Any) -> None:
        """Raise unless dtypes are equal: Orbax would return another kind of key."""
        leaves = zip(jax.tree.leaves(like), jax.tree.leaves(state), strict=True)
        for wanted, got in leaves:
            if wanted.dtype != got.dtype:
                raise ValueError(
                    f"Checkpoint {step} in {self.directory} has {got.dtype} where "
                    f"{wanted.dtype} is expected; it was saved by other code."
                )

    def _latest_whole(
        self, items: Callable[[int], dict[str, Any]]
    ) -> tuple[int, dict[str, Any]]:
        """Restore items and `run` from the latest step whose files are undamaged."""
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(
                f"No checkpoint in {self.directory}; expected a folder that a run "
                "has saved to."
            )
        for step in reversed(steps):
            try:
                wanted = ocp.args.Composite(run=ocp.args.JsonRestore(), **items(step))
                return step, _verified(dict(self._manager.restore(step, args=wanted)))
            # Orbax, TensorStore and JSON report damage with errors of their own.
            except Exception as error:
                if step not in self._damaged:
                    _log.warning(
                        "Checkpoint %d in %s cannot be read (%s); trying the one "
                        "before.",
                        *(step, self.directory, one_line(error)),
                    )
                self._damaged.add(step)
        raise ValueError(
            f"None of the checkpoints {steps} in {self.directory} can be read; "
            "delete the folder to start again."
        )

    def set_aside_after(self, step: int) -> None:
        """Move damaged checkpoints, those after `step`, to the folder `unreadable`.

        `step` is that of the latest undamaged checkpoint. A warning names the others.
        """
        later = [s for s in self.steps() if s > step]
        if not later:
            return
        aside = self.directory / _ASIDE
        parallel.first_alone(lambda: _move(self.directory, later, aside))
        self._manager.reload()
        _log.warning(
            "Checkpoints %s of %s were moved to %s; the run resumes at step %d.",
            later,
            self.directory,
            aside,
            step,
        )


def differences(
    saved: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Return a sentence for each difference between two descriptions (nested JSON).

    For example `["loss.gan is lsgan there and bce here"]`. Tuples equal lists; `prefix`
    begins each name.
    """
    ours, found = json.loads(json.dumps(ours)), []
    for key in sorted({*saved, *ours}):
        a, b = saved.get(key), ours.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} is {a} there and {b} here")
    return found


def _verified(restored: dict[str, Any]) -> dict[str, Any]:
    """Return restored items on this process's device; `ValueError` for damage."""
    run = digest.unseal(restored["run"])
    if "state" not in restored:
        return {"run": run}
    state = parallel.local(restored["state"])
    found, saved = digest.of_arrays(state), run["arrays"]
    for name in sorted({*found, *saved}):
        if found.get(name) != saved.get(name):
            raise ValueError(f"`{name}` is not what was saved")
    for name, leaf in digest.named_leaves(state):
        if _WEIGHTS & set(name.split("/")) and not jnp.isfinite(leaf).all():
            raise ValueError(f"`{name}` is not finite")
    return {"run": run, "state": state}


def _copy(state: Any) -> Any:
    """Copy a state, and replicate it when several processes save it together."""
    # On a CPU the writer would share the state's memory, which the next step reuses.
    copied = jax.tree.map(jnp.copy, parallel.local(state))
    return parallel.replicate(copied) if parallel.num_processes() > 1 else copied


def _abstract(state: Any) -> Any:
    """Return shapes and dtypes, on all devices of this process."""
    sharding = parallel.replicated_sharding()
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), state
    )


def _move(directory: pathlib.Path, steps: list[int], aside: pathlib.Path) -> None:
    """Move checkpoints to those of their steps that were moved before."""
    aside.mkdir(exist_ok=True)
    for step in steps:
        names = (aside / f"{step}-{number}" for number in itertools.count())
        free = next(name for name in names if not name.exists())
        (directory / str(step)).rename(free)
