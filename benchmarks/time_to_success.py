"""Measure a cold start until a generator fools 98 % of the images: ours and PyTorch's.

    python benchmarks/time_to_success.py --target_model_dir=runs/target_models

Each training is its own process. The clock starts with the command, so imports and
compilation count, and nothing is cached. Both read one file with MNIST and the weights
of model C, which is trained before. They train for `--check_every` steps and measure,
until the generator fools `--goal` of those among the first 1,000 test images that the
model classifies correctly.

Ours is configs/advgan.py:mnist with batches of 64, and its learning rate falls over
`--max_steps`. PyTorch's is the public recipe (see `_torch_advgan.py`) with batches of
128. So this compares recipes, not steps. Processes take turns; times are medians of
`--repeats`, each with its own seed.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import _measure
import _task
from absl import app, flags, logging

_GOAL = flags.DEFINE_float("goal", 0.98, "Share of images to fool.")
_CHECK_EVERY = flags.DEFINE_integer("check_every", 50, "Steps between two checks.")
_MAX_STEPS = flags.DEFINE_integer("max_steps", 3748, "Steps after which to give up.")

_CHILDREN = {_measure.OURS: "_success_ours.py", "PyTorch": "_success_torch.py"}


def run(who, path, seed):
    """Train a rival once.

    Returns:
      Seconds, steps and the success reached.
    """
    settings = {
        "path": str(path),
        "seed": seed,
        "goal": _GOAL.value,
        "check_every": _measure.smaller(_CHECK_EVERY.value, 1),
        "max_steps": _measure.smaller(_MAX_STEPS.value, 2),
        "started": time.time(),
    }
    child = str(pathlib.Path(__file__).with_name(_CHILDREN[who]))
    command = [sys.executable, child, json.dumps(settings)]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{who} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def row(who, found):
    """Return medians; the time is None unless each training reached the goal."""
    middle = {
        name: statistics.median(one[name] for one in found)
        for name in ("seconds", "steps", "success")
    }
    reached = sum(one["success"] >= _GOAL.value for one in found)
    return {
        "benchmark": f"cold start to {_GOAL.value:.0%} success, model C",
        "who": who,
        "seconds": middle["seconds"] if reached == len(found) else None,
        "steps": middle["steps"],
        "success": middle["success"],
        "reached": f"{reached} of {len(found)}",
        "spent": middle["seconds"],
    }


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    names = [_measure.OURS]
    names += ["PyTorch"] if "pytorch" in _measure.RIVALS.value else []
    found = {who: [] for who in names}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "task.npz"
        _task.save_task(path)
        for seed in range(_measure.repeats()):
            for who in names:
                found[who].append(run(who, path, seed))
    rows = [row(who, found[who]) for who in names]
    for one in rows:
        both = one["seconds"] and rows[0]["seconds"]
        one["times ours"] = one["seconds"] / rows[0]["seconds"] if both else None
    _measure.report(environment, rows, _measure.versus(rows))


if __name__ == "__main__":
    app.run(main)
