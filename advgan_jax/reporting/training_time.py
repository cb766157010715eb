"""The duration of a training, in a file next to its checkpoints."""

import logging
import pathlib
import time

from advgan_jax.files import read_json
from advgan_jax.reporting import write_json

_log = logging.getLogger(__name__)
_FILE = "training_time.json"


class TrainingTimer:
    """Measure the seconds of work that a state needed, over all interruptions.

    Work after the last checkpoint of a stopped run is lost and does not count.
    Compilation counts, also when a resumed run compiles again.
    """

    def __init__(self, directory: pathlib.Path, restored_step: int):
        """Start at the time of the restored step, 0 for a new training."""
        self._path = directory / _FILE
        known = _read(directory)
        self._known = {s: t for s, t in known.items() if s <= restored_step}
        # None: nobody measured the time of these checkpoints.
        self._before = self._known.get(restored_step) if restored_step else 0.0
        self._start = time.perf_counter()

    def write(self, step: int) -> None:
        """Record the time of a state that is saved now."""
        worked = time.perf_counter() - self._start
        self._known[step] = None if self._before is None else self._before + worked
        write_json(self._path, {str(s): t for s, t in self._known.items()})


def training_seconds(directory: pathlib.Path) -> float | None:
    """Return the seconds of a training up to its last checkpoint; None if unknown."""
    known = _read(directory)
    return known[max(known)] if known else None


def _read(directory: pathlib.Path) -> dict[int, float | None]:
    path = directory / _FILE
    if not path.exists():
        return {}
    try:
        values = read_json(path, "seconds by step", "delete the file")
        known = {int(step): seconds for step, seconds in values.items()}
        if not all(s is None or 0 <= s < float("inf") for s in known.values()):
            raise ValueError(f"{path} must contain seconds, got another value.")
    except (OSError, TypeError, ValueError) as error:
        _log.warning("The duration of the training is unknown: %s", error)
        return {}
    return known
