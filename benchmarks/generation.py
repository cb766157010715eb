"""Measure adversarial images per second from a generator, and compare with PyTorch.

    python benchmarks/generation.py
    python benchmarks/generation.py --onnx=generator.onnx

Makes 1,000 and 10,000 images of MNIST's size: warm, 10,000 in each turn, and in the
first call, with everything that has to be compiled and nothing cached on disk. Then
batches of 1 to 8192 (or `--batches`). Weights and pixels are random, because run time
does not depend on them. The images are on the devices before and stay there.

Each contender is its own process with all cores, as in `training.py`:
  * ours, with the images divided among one device per core (`--cpu_devices` of the
    commands), or on one device for the smallest batches, where that is faster;
  * the same in bfloat16, and on one device, the default;
  * PyTorch as installed, and PyTorch with an environment that keeps freed memory,
    as our commands do;
  * ONNX Runtime, with a file of `benchmarks/export_onnx.py`. jax2onnx spells out the
    normalisations and transposes the convolutions.
"""

import json

import _measure
from _contender import KEPT, started
from absl import app, flags, logging

_BATCHES = flags.DEFINE_list(
    "batches", ["1", "8", "32", "128", "512", "2048", "8192"], "Batch sizes."
)
_ONNX = flags.DEFINE_string("onnx", None, "An exported generator.")

_MOST_CALLS = 500  # of batch 1, in a turn
# Images per device; with fewer, joining two devices costs more than it saves.
_WORTH_SPREADING = 16


def contenders(size, count):
    """Return the plans for `_contender.started`, by name; ours first."""
    settings = {
        "size": size,
        "count": count,
        "widths": _measure.smaller((8, 16, 32), (2, 2, 2)),
        "num_residual": _measure.smaller(4, 0),
        "dtype": "float32",
        "onnx": None,
    }
    devices = _measure.num_devices()
    worth = size >= devices * _measure.smaller(_WORTH_SPREADING, 4)
    ours = {_measure.OURS: {"cut": devices if worth else 1}}
    if ours[_measure.OURS]["cut"] > 1:
        ours[f"{_measure.OURS}, one device"] = {"cut": 1}
    ours[f"{_measure.OURS}, bfloat16"] = ours[_measure.OURS] | {"dtype": "bfloat16"}
    found = {
        name: ("_generation_ours.py", settings | own, {}) for name, own in ours.items()
    }
    script = "_generation_rivals.py"
    if "pytorch" in _measure.RIVALS.value:
        found["PyTorch"] = (script, settings, {})
        found["PyTorch, memory kept"] = (script, settings, {"GLIBC_TUNABLES": KEPT})
    if _ONNX.value:
        found["ONNX Runtime"] = (script, settings | {"onnx": _ONNX.value}, {})
    return found


def compare(name, size, count, *, first=False):
    """Return rows for `count` images per turn; with `first`, also for the first call.

    A turn of one call of 1,000 would end before a waiting process is up to speed.
    """
    with started(contenders(size, count)) as thunks:
        rows = _measure.compare(name, thunks, count)
    cold = {
        who: json.loads(contender.startup_lines[-1])
        for who, contender in thunks.items()
    }
    return rows + [
        {
            "benchmark": f"{name}, first call",
            "who": who,
            "seconds": seconds,
            "images/s": size / seconds,
            "times ours": seconds / cold[_measure.OURS],
        }
        for who, seconds in cold.items()
        if first
    ]


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    rows, total = [], _measure.smaller(10_000, 20)
    for size in _measure.smaller((1000, 10_000), (20,)):
        rows += compare(f"generate {size} images", size, total, first=True)
    for size in map(int, _measure.smaller(_BATCHES.value, ("1",))):
        count = size * min(-(-total // size), _MOST_CALLS)
        rows += compare(f"generate, batch {size}", size, count)
    figures = _measure.versus(rows, "images/s")
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
