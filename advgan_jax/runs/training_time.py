"""How long a training took, kept beside its checkpoints."""

import json
import pathlib
import time

from advgan_jax.reporting import write_json

_FILE = "training_time.json"


class Clock:
    """Counts the seconds of work that a state holds, over all interruptions.

    What a stopped run did after its last checkpoint is lost, and not counted. To
    compile, and to compile again after an interruption, counts as work.
    """

    def __init__(self, directory: pathlib.Path, restored_step: int):
        """Starts at the time of the restored step.

        Args:
          directory: of the training.
          restored_step: the step from which it goes on; 0 for a fresh one.
        """
        self._path = directory / _FILE
        known = _read(directory)
        self._known = {s: t for s, t in known.items() if s <= restored_step}
        # None: checkpoints of a training that nobody timed.
        self._before = self._known.get(restored_step) if restored_step else 0.0
        self._start = time.perf_counter()

    def write(self, step: int) -> None:
        """Notes the time of a state that is saved now."""
        worked = time.perf_counter() - self._start
        self._known[step] = None if self._before is None else self._before + worked
        write_json(self._path, {str(s): t for s, t in self._known.items()})


def training_seconds(directory: pathlib.Path) -> float | None:
    """How long a training took.

    Args:
      directory: of the training.

    Returns:
      Seconds up to its last checkpoint; None if it was not timed.
    """
    known = _read(directory)
    return known[max(known)] if known else None


def _read(directory: pathlib.Path) -> dict[int, float | None]:
    path = directory / _FILE
    if not path.exists():
        return {}
    values = json.loads(path.read_text(encoding="utf8"))
    return {int(step): seconds for step, seconds in values.items()}
