"""Measure training images per second of the same networks, and compare with PyTorch.

    python benchmarks/training.py --target_model_dir=runs/target_models

Trains on MNIST in batches of 128 (or `--batches`). There are two kinds of step,
AdvGAN's (one update of the discriminator and one of the generator against model C) and
model C's own, and an epoch of AdvGAN's steps with its shuffle, through the loop of the
runs. Both kinds are also measured with ResNet-32 on noise of CIFAR-10's size, without
augmentation, and with the generator of `configs/advgan.py:cifar10`.

Each contender is its own process with all cores:
  * ours with one device per core (`--cpu_devices`), where AdvGAN is faster;
  * ours on one device, the default, where model C is faster;
  * PyTorch as installed, and PyTorch with an environment that keeps freed memory, as
    our commands do.
They take turns, while the others wait. A turn makes `--steps` steps; times are medians
of `--repeats` turns after one for warm-up.

`--also=bfloat16` adds ours in bfloat16. `--also=convolutions` adds ours with the
convolutions and pools of the other kind of platform: XLA's on a CPU, our CPU ones
elsewhere. PyTorch needs

    python -m pip install torch==2.13.0

unless `--rivals=` omits it.
"""

import pathlib
import tempfile

import _measure
import _task
import jax
from _contender import KEPT, started
from absl import app, flags, logging

from advgan_jax.configs import advgan

_STEPS = flags.DEFINE_integer("steps", 20, "Steps per turn.")
_BATCHES = flags.DEFINE_list("batches", ["128"], "Batch sizes.")
_ALSO = flags.DEFINE_multi_enum(
    "also", [], ["bfloat16", "convolutions"], "More variants of ours; may be repeated."
)

PARTS = {
    "advgan_step": "AdvGAN step",
    "classifier_step": "model C step",
    "advgan_epoch": "AdvGAN epoch",
    "resnet32_step": "ResNet-32 step",
    "resnet32_advgan_step": "AdvGAN step against ResNet-32",
}


def contenders(path, part, size):
    """Return the plans for `_contender.started`, by name; ours first."""
    settings = {
        "path": str(path),
        "part": part,
        "size": size,
        "steps": _measure.smaller(_STEPS.value, 2),
        "dtype": "float32",
        "traced_as": None,
        "widths": (8, 16, 32),
        "epsilon": _task.EPSILON,
    }
    if part == "resnet32_advgan_step":
        config = advgan.get_config("cifar10")
        settings["widths"] = _measure.smaller(config.generator.widths, (2, 2, 2))
        settings["epsilon"] = config.epsilon
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
        mnist, noise = (pathlib.Path(folder) / f"{n}.npz" for n in ("mnist", "noise"))
        chosen = _measure.chosen(PARTS)
        if not all(part.startswith("resnet32") for part in chosen):
            _task.save_task(mnist)
        _task.save_noise(noise, (32, 32, 3))
        rows = [
            row
            for part in chosen
            for size in map(int, _measure.smaller(_BATCHES.value, ("4",)))
            for row in compare(
                noise if part.startswith("resnet32") else mnist, part, size
            )
        ]
    _measure.report(environment, rows, _measure.versus(rows, "images/s"))


if __name__ == "__main__":
    app.run(main)
