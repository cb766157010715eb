"""Adversarial images from a generator: images per second, beside PyTorch.

    python benchmarks/generation.py
    python benchmarks/generation.py --onnx=generator.onnx

1,000 and 10,000 MNIST-sized images: warm, 10,000 in each turn, and the first call of so
many, with all that has to be compiled and nothing from a cache on disk. Then batches of
1 to 8192 (or `--batches`). Time does not depend on weights or pixels, so both are
random; images lie on the devices before, and stay there.

Each contender is a process of its own, with all cores, as in `training.py`: ours with
the images spread over a device for each core (`--cpu_devices` of experiments), the
same with the network in bfloat16, and on one device, the default, which is faster for
the smallest batches and ours there; PyTorch as it is installed; and PyTorch told by the
environment to keep freed memory, as our experiments tell themselves.
`benchmarks/export_onnx.py` makes the file for ONNX Runtime: the graph that jax2onnx
writes, whose normalisations are spelled out and whose convolutions are transposed.
"""

import json

import _measure
from _contender import KEPT, started
from absl import app, flags, logging

_BATCHES = flags.DEFINE_list(
    "batches", ["1", "8", "32", "128", "512", "2048", "8192"], "Batch sizes."
)
_ONNX = flags.DEFINE_string("onnx", None, "A generator, exported.")

_MOST_CALLS = 500  # of batch 1, in a turn
# Images of a device: with fewer, bringing two devices together takes longer than both.
_WORTH_SPREADING = 16


def contenders(size, count):
    """What `_contender.started` starts, by name; ours first."""
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
    """Rows for so many images in each turn; with `first`, for the first call as well.

    A single call of 1,000 would be over before a process that waited is up to speed.
    """
    with started(contenders(size, count)) as thunks:
        rows = _measure.compare(name, thunks, count)
    cold = {who: json.loads(contender.told[-1]) for who, contender in thunks.items()}
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
    for size in map(int, _measure.smaller(_BATCHES.value, ("1", "8"))):
        count = size * min(-(-total // size), _MOST_CALLS)
        rows += compare(f"generate, batch {size}", size, count)
    figures = _measure.versus(rows, "images/s")
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
