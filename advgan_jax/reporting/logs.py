"""The logs of a run: `metrics.jsonl`, `results.json` and TensorBoard's events.

`metrics.jsonl` has one line for each call of `MetricsLog.write`: `{"step": ...}` and
the metrics by name. TensorBoard's events are in `tensorboard/`.
"""

import json
import os
import pathlib
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from advgan_jax import parallel
from advgan_jax.evaluation import ROW_KEYS
from advgan_jax.files import Path, reading, writing
from advgan_jax.reporting.environment import command_line, device_name, versions
from advgan_jax.reporting.files import replacing, to_json, write_json

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_HIDING = threading.Lock()  # of PyTorch, by `_events`
METRICS, RESULTS, TENSORBOARD = "metrics.jsonl", "results.json", "tensorboard"


def write_results(
    workdir: Path, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> pathlib.Path:
    """Write `results.json` and return its path.

    Args:
      workdir: folder of the run.
      rows: from `evaluation.make_row`.
      config: the resolved configuration.

    Raises:
      ValueError: if the fields of a row are not `evaluation.ROW_KEYS`.
      TypeError: if JSON cannot represent a value.
    """
    for number, row in enumerate(rows):
        if tuple(row) != ROW_KEYS:
            odd = sorted(set(row) ^ set(ROW_KEYS)) or "another order"
            raise ValueError(
                f"Rows must have the fields of `evaluation.ROW_KEYS`, row {number} "
                f"differs in {odd}; build it with `evaluation.make_row`."
            )
    path = pathlib.Path(workdir, RESULTS)
    made_with = {"versions": versions(), "device": device_name()}
    command = {"command": command_line()}
    write_json(path, {"rows": rows, "config": config, **command, **made_with})
    return path


class MetricsLog:
    """The metrics of a training run, written line by line; a context manager.

    Only the first of several processes writes; the others check their arguments.
    """

    def __init__(self, workdir: Path, *, restored_step: int | None = None):
        """Open the log in the folder of a run, which is made if it does not exist.

        A run that resumes from `restored_step` deletes later lines; None begins a new
        log.

        Raises:
          ValueError: if the old log has a line of another form.
        """
        self.path: pathlib.Path = pathlib.Path(workdir, METRICS)
        self._file = self._events = None
        if not parallel.is_first():
            return
        known = [] if restored_step is None else _read(self.path)
        kept = [line for line, row in known if row["step"] <= restored_step]
        with replacing(self.path) as partial:
            partial.write_text("".join(kept), encoding="utf8")
        # A link in place of the new file would lead to somebody else's.
        descriptor = os.open(self.path, os.O_APPEND | os.O_WRONLY | _NO_LINK)
        self._file = os.fdopen(descriptor, "a", encoding="utf8")
        # TensorBoard hides older events from this step on.
        self._events = _events(
            pathlib.Path(workdir, TENSORBOARD), (restored_step or 0) + 1
        )

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        with writing(self.path):
            for file in (self._file, self._events):
                if file is not None:
                    file.close()

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the scalars of a step to disk; raise if one has the name `step`."""
        if "step" in metrics:
            raise ValueError("A metric must not be called 'step', got one; rename it.")
        values = {name: to_json(value) for name, value in metrics.items()}
        line = json.dumps({"step": int(step), **values}, allow_nan=False)
        if self._file is None or self._events is None:
            return
        with writing(self.path):
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        with writing(self.path.with_name(TENSORBOARD)):
            for name, value in metrics.items():
                self._events.add_scalar(name, float(value), int(step))
            self._events.flush()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Read what a `MetricsLog` wrote in the folder of a run: a dict for each line.

    NaN and infinity become None. Without a log, the list is empty.

    Raises:
      ValueError: if a line has another form; names it.
    """
    return [row for _, row in _read(pathlib.Path(workdir, METRICS))]


def _events(folder: pathlib.Path, first_step: int) -> "SummaryWriter":
    """Return a writer of TensorBoard's events, without an import of PyTorch.

    tensorboardX imports PyTorch where it is installed, to know its tensors; that takes
    longer than all other imports of a run together. Until tensorboardX is imported, an
    import of PyTorch in another thread fails.
    """
    with _HIDING:
        if not {"torch", "tensorboardX"} & set(sys.modules):
            hidden: Any = None
            sys.modules["torch"] = hidden  # an import of None raises ImportError
        try:
            from tensorboardX import SummaryWriter
        finally:
            if sys.modules.get("torch", 0) is None:
                del sys.modules["torch"]
    return SummaryWriter(str(folder), purge_step=first_step)


def _read(path: pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the complete lines of a log, as text and parsed."""
    if not path.exists():
        return []
    parsed = []
    with reading(path, "lines of JSON", "move the file away"):
        lines = path.read_text(encoding="utf8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):  # The run was killed while it wrote this.
            break
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{path} must have one JSON object with a 'step' on each line, line "
                f"{number} is {line[:40]!r}; move the file away."
            ) from error
        parsed.append((line, row))
    return parsed
