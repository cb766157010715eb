"""Training beside PyTorch: images per second of the same networks.

    python benchmarks/training.py --target_model_dir=runs/target_models

MNIST, batches of 128 (or `--batches`), two kinds of step: AdvGAN's (one update of the
discriminator and one of the generator against model C), and model C's own; and an
epoch of AdvGAN's steps, with its shuffle, through the loop that runs have.

Each contender is a process of its own, with all cores: ours with a device for each
core (`--cpu_devices`), where AdvGAN is faster, and on one device, the default, where
model C is; PyTorch as it is installed; and PyTorch told by the environment to keep
freed memory, as our experiments tell themselves. Ours is first where it is faster. They
take turns, while the others wait; each turn makes `--steps` steps; medians of
`--repeats` turns after one to warm up.

`--also=bfloat16` adds ours with all networks multiplying in it, `--also=convolutions`
ours with the convolutions and pools of the other kind of platform: those of XLA on a
CPU, and those that we have for a CPU elsewhere. PyTorch needs

    python -m pip install torch==2.13.0

unless `--rivals=` leaves it out.
"""

import pathlib
import tempfile

import _measure
import _targets
import jax
from _contender import KEPT, started
from absl import app, flags, logging

_STEPS = flags.DEFINE_integer("steps", 20, "Steps in a turn.")
_BATCHES = flags.DEFINE_list("batches", ["128"], "Batch sizes.")
_ALSO = flags.DEFINE_multi_enum(
    "also", [], ["bfloat16", "convolutions"], "More of ours; may be repeated."
)

PARTS = {
    "advgan_step": "AdvGAN step",
    "classifier_step": "model C step",
    "advgan_epoch": "AdvGAN epoch",
}


def contenders(path, part, size):
    """What `_contender.started` starts, by name; ours first."""
    settings = {
        "path": str(path),
        "part": part,
        "size": size,
        "steps": _measure.smaller(_STEPS.value, 2),
        "dtype": "float32",
        "traced_as": None,
    }
    devices, on_cpu = _measure.num_devices(), jax.default_backend() == "cpu"
    cuts = {_measure.OURS: devices}
    if devices > 1:
        cuts[f"{_measure.OURS}, one device"] = 1
    if devices > 1 and part == "classifier_step" and on_cpu:
        cuts = {_measure.OURS: 1, f"{_measure.OURS}, a device a core": devices}
    ours = {name: {"cut": cut} for name, cut in cuts.items()}
    same = next(iter(ours.values()))
    whose, other = ("XLA's", "plain") if on_cpu else ("the CPU's", "cpu")
    variants = {
        "bfloat16": ("bfloat16", {"dtype": "bfloat16"}),
        "convolutions": (f"{whose} convolutions", {"traced_as": other}),
    }
    for title, own in (variants[name] for name in _ALSO.value):
        ours[f"{_measure.OURS}, {title}"] = same | own
    found = {
        name: ("_training_ours.py", settings | own, {}) for name, own in ours.items()
    }
    if "pytorch" in _measure.RIVALS.value:
        script = "_training_torch.py"
        found["PyTorch"] = (script, settings, {})
        found["PyTorch, memory kept"] = (script, settings, {"GLIBC_TUNABLES": KEPT})
    return found


def compare(path, part, size):
    images = size * _measure.smaller(_STEPS.value, 2)
    with started(contenders(path, part, size)) as thunks:
        return _measure.compare(f"{PARTS[part]}, batch {size}", thunks, images)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "task.npz"
        _targets.save_task(path)
        rows = [
            row
            for part in _measure.chosen(PARTS)
            for size in map(int, _measure.smaller(_BATCHES.value, ("4",)))
            for row in compare(path, part, size)
        ]
    _measure.report(environment, rows, _measure.versus(rows, "images/s"))


if __name__ == "__main__":
    app.run(main)
