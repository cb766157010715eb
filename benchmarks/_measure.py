"""Time rivals in turns, and collect rows and figures.

A script writes rows, with everything that it measured, and figures: one number each,
which `run.py` compares with its goal.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib import metadata
from unittest import mock

import jax
from absl import flags

from advgan_jax import reporting
from advgan_jax.cpu.cores import num_cores

# On a GPU, each process takes only the memory that it needs, so children have some.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

PACKAGES = (
    "scipy",
    "torch",
    "foolbox",
    "torchattacks",
    "adversarial-robustness-toolbox",
    "onnxruntime",
)
OURS = "advgan_jax"

ONLY = flags.DEFINE_list("only", None, "Names of the parts to run.")
OUT = flags.DEFINE_string("out", None, "File for the figures, JSON.")
SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes, to test that all parts run.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed rounds, after one for warm-up.")
RIVALS = flags.DEFINE_list(
    "rivals",
    ["pytorch", "foolbox", "torchattacks", "art", "scipy"],
    "Libraries to compare with.",
)


def traced_as(backend, step):
    """Return a step that traces as on another platform."""

    def traced(*arguments, **options):
        with mock.patch("jax.default_backend", return_value=backend):
            return step(*arguments, **options)

    return traced


def num_devices():
    """Return the number of devices of a process; on a CPU, one for each core."""
    on_cpu = jax.default_backend() == "cpu"
    return num_cores() if on_cpu else len(jax.devices())


def smaller(size, tiny):
    """Return the given size, or the tiny one with `--smoke`."""
    return tiny if SMOKE.value else size


def run_python(*arguments, **variables):
    """Run Python on this checkout in a process of its own; return its output."""
    root = str(pathlib.Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def repeats():
    return smaller(REPEATS.value, 1)


def in_turns(thunks, repeats, *, warm_up=True):
    """Call each function once for warm-up, then all of them in turns.

    The speed of these machines drifts. With turns, a slow round is slow for all.

    Returns:
      Median seconds and the last result of each function, by name.
    """
    results = {name: thunk() for name, thunk in thunks.items()} if warm_up else {}
    seconds = {name: [] for name in thunks}
    for _ in range(repeats):
        for name, thunk in thunks.items():
            seconds[name].append(timed(thunk, results, name))
    return {n: statistics.median(s) for n, s in seconds.items()}, results


def timed(thunk, results, name):
    start = time.perf_counter()
    results[name] = thunk()
    return time.perf_counter() - start


def compare(name, thunks, images):
    """Return a row for each rival with its images per second; the first is ours."""
    seconds, _ = in_turns(thunks, repeats())
    ours = next(iter(seconds.values()))
    return [
        {
            "benchmark": name,
            "who": who,
            "seconds": took,
            "images/s": images / took,
            "times ours": took / ours,
        }
        for who, took in seconds.items()
    ]


def figure(name, ours, unit, *, rival=None, theirs=None, ratio=None):
    """Return one line of the table; a ratio above 1 means that ours is better."""
    return {
        "figure": name,
        "ours": ours,
        "unit": unit,
        "rival": rival,
        "theirs": theirs,
        "ratio": ratio,
    }


def faster(name, ours, rival, theirs):
    """Return the figure of our seconds beside a rival's."""
    return figure(
        name, ours, "seconds", rival=rival, theirs=theirs, ratio=theirs / ours
    )


def versus(rows, key="seconds"):
    """Return a figure for each rival, and one for each benchmark without a rival.

    Args:
      rows: grouped by benchmark, ours first; times in `seconds`.
      key: the number that the figure shows, `seconds` or `images/s`.
    """
    found, first = [], None
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        if first is None or row["benchmark"] != first["benchmark"]:
            first = row
            if following and following["benchmark"] == row["benchmark"]:
                continue
            found.append(figure(row["benchmark"], row[key], key))
        else:
            found.append(
                figure(
                    row["benchmark"],
                    first[key],
                    key,
                    rival=row["who"],
                    theirs=row[key],
                    ratio=row["times ours"],
                )
            )
    return found


def chosen(parts):
    """Return the parts that `--only` names, or all without it.

    Raises:
      ValueError: for an unknown part; lists the known ones.
    """
    names = ONLY.value or list(parts)
    unknown = sorted(set(names) - set(parts))
    if unknown:
        raise ValueError(f"Unknown parts {unknown} in --only. Known: {list(parts)}.")
    return {name: parts[name] for name in names}


def environment(packages=PACKAGES):
    """Return machine and versions, for the file of results."""
    versions = reporting.versions()
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "device": reporting.device_name(),
        "processor": _processor(),
        "cores": num_cores(),
        "load_at_start": os.getloadavg()[0],
        "smoke": SMOKE.value,
        "versions": versions,
    }


def _processor():
    """Return the CPU's name and widest vectors, if Linux reports them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf8")
    except OSError:
        return platform.processor() or None
    found = dict(re.findall(r"^(.+?)\s*: (.*)$", text, flags=re.MULTILINE))
    wide = [n for n in ("avx512f", "avx2") if n in found.get("flags", "").split()]
    return " ".join([found.get("model name", platform.machine()), *wide[:1]])


def report(environment, rows, figures):
    """Print the rows, and write rows and figures to `--out`."""
    print(table(rows))
    save(environment, rows, figures)


def save(environment, rows, figures):
    """Write rows and figures to `--out`, if it is given."""
    if OUT.value:
        content = {"environment": environment, "rows": rows, "figures": figures}
        write(OUT.value, content)


def write(path, content):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def table(rows):
    """Return rows as aligned text; missing cells are empty."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    lines = [header, *([_cell(row.get(key)) for key in header] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value):
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
