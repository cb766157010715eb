"""Progress of long work: a bar on terminals, and elsewhere a line every half minute.

Lines go to the standard error, as bars do. All work of a process shares one timer:
many short pieces write no more lines than one long piece.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

SECONDS = 30  # from a line to the next
_GRACE = 1.0  # seconds that short work may take without a line
Update = Callable[..., None]
_last = [time.monotonic()]  # of the latest line, or of the start


@contextlib.contextmanager
def progress(
    total: int,
    title: str | None,
    unit: str = "img",
    *,
    initial: int = 0,
    per_step: int = 1,
    shown: bool = True,
) -> Iterator[Update]:
    """Show how much of some work is done while the block runs.

    Args:
      total: of steps.
      title: what the work is.
      unit: of what a step processes.
      initial: steps that an interrupted run made before.
      per_step: units in a step.
      shown: False shows nothing.

    Yields:
      A function that adds steps, `update(steps, note="")`, and shows the last note.
    """
    if not shown:
        yield lambda steps, note="": None
    elif sys.stderr.isatty():
        look: Any = {"desc": title, "unit": f" {unit}", "unit_scale": True}
        look |= {"total": total * per_step, "initial": initial * per_step}
        with tqdm(**look) as bar:

            def _update(steps: int, note: str = "") -> None:
                bar.set_postfix_str(note, refresh=False)
                bar.update(steps * per_step)

            yield _update
    else:
        lines = Lines(total, title or "work", unit, initial, per_step)
        ended = threading.Event()
        writer = threading.Thread(target=_write, args=(lines, ended), daemon=True)
        writer.start()
        try:
            yield lines.update
        finally:
            ended.set()
            writer.join()


class Lines:
    """Describe the progress of some work in lines of text; see `progress`."""

    def __init__(
        self,
        total: int,
        title: str,
        unit: str,
        initial: int = 0,
        per_step: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._title, self._unit = total, title, unit
        self._per_step, self._clock = per_step, clock
        self._done = self._before = initial
        self._since, self._note = clock(), ""

    def update(self, steps: int, note: str = "") -> None:
        """Add finished steps, and replace the note."""
        self._done += steps
        self._note = f", {note}" if note else ""

    def line(self) -> str:
        """Return the state, with the rate since the line before, and the time left."""
        now, done = self._clock(), self._done
        rate = (done - self._before) / max(now - self._since, 1e-9)
        share = f"{100 * done / max(self._total, 1):.1f} %"
        kind = "step " if self._per_step > 1 else ""
        text = f"{self._title}: {kind}{done:,} of {self._total:,} ({share})"
        text += self._note
        if not rate:
            waited = now - self._since  # a compilation takes a while
            return f"{text}, no step in {waited:.0f} s" if waited >= SECONDS else text
        self._since, self._before = now, done
        left = _duration((self._total - done) / rate)
        return f"{text}, {_short(rate * self._per_step)} {self._unit}/s, {left} left"


def _write(lines: Lines, ended: threading.Event) -> None:
    """Write a line whenever the last one of the process is old enough."""
    while not ended.wait(max(_GRACE, _last[0] + SECONDS - time.monotonic())):
        sys.stderr.write(f"{lines.line()}\n")
        sys.stderr.flush()
        _last[0] = time.monotonic()


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _duration(seconds: float) -> str:
    """Format a time, such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
