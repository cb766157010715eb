"""Measure the time to the first training step, and that of the default command.

    python benchmarks/startup.py

Prints wall-clock seconds, each in its own process: with an empty compilation cache, and
with the cache that the same command has just filled. They are medians of `--repeats`,
after one run that reads all files for the first time. The last row is the
largest memory that any of these processes used. The command is the README's,
AdvGAN on digits; its first step is the first one of its target model.
"""

import pathlib
import resource
import statistics
import tempfile
import time

import _measure
from absl import app, logging

_ROOT = pathlib.Path(__file__).parents[1]
_TRAIN = [
    str(_ROOT / "experiments" / "train.py"),
    f"--config={_ROOT / 'configs' / 'advgan.py'}",
]
_FIRST_STEP = [str(_ROOT / "benchmarks" / "_first_step.py"), *_TRAIN]
_TINY = [
    "--config.target_training.num_epochs=1",
    "--config.training.num_epochs=1",
    "--config.generator.num_residual=0",
    "--config.evaluation.num_images=20",
]
PARTS = {"first step": _FIRST_STEP, "default command": _TRAIN}


def seconds(command, cache):
    """Return the seconds of a command with this folder as its compilation cache."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"--workdir={folder}/run", *_measure.smaller([], _TINY)]
        start = time.perf_counter()
        _measure.run_python(*command, *arguments, JAX_COMPILATION_CACHE_DIR=cache)
        return time.perf_counter() - start


def cold_and_warm(name, command):
    """Yield rows of a command with an empty cache and with the one it filled."""
    found = {"empty": [], "filled": []}
    for _ in range(_measure.repeats()):
        with tempfile.TemporaryDirectory() as cache:
            for took in found.values():
                took.append(seconds(command, cache))
    for state, took in found.items():
        yield {
            "benchmark": f"{name}, {state} cache",
            "who": _measure.OURS,
            "seconds": statistics.median(took),
        }


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    parts = _measure.chosen(PARTS)
    if not _measure.SMOKE.value:
        with tempfile.TemporaryDirectory() as cache:
            seconds(_FIRST_STEP, cache)
    rows = [row for part in parts.items() for row in cold_and_warm(*part)]
    figures = _measure.versus(rows)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows.append({"benchmark": "memory", "who": _measure.OURS, "MiB": most})
    figures.append(_measure.figure("most memory of a command", most, "MiB"))
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
