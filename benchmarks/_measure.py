"""Timing of rivals side by side: warmed up, in turns, medians."""

import json
import os
import pathlib
import platform
import statistics
import time
from importlib import metadata

import jax


def in_turns(thunks, repeats):
    """Calls each function once to warm up, then all in turns.

    Turns, because these machines drift: what slows one round slows all in it.

    Returns:
      Median seconds and the last result of each, by name.
    """
    results = {name: thunk() for name, thunk in thunks.items()}
    seconds = {name: [] for name in thunks}
    for _ in range(repeats):
        for name, thunk in thunks.items():
            start = time.perf_counter()
            results[name] = thunk()
            seconds[name].append(time.perf_counter() - start)
    return {n: statistics.median(s) for n, s in seconds.items()}, results


def environment(packages):
    """Machine and versions, for the file of results."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": os.getloadavg()[0],
        "versions": versions,
    }


def write(path, environment, rows):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment, "rows": rows}, indent=2)
    path.write_text(text + "\n", encoding="utf8")


def table(rows):
    """Rows of equal keys as aligned text."""
    header = list(rows[0])
    lines = [header, *([_cell(row[key]) for key in header] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
