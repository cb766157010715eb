"""Ten AdvGANs, one for each class, against one AI-GAN for all of them.

    python experiments/train.py --config=configs/generators.py            # digits
    python experiments/train.py --config=configs/generators.py:mnist

Finished runs are not repeated if their folders are given, `{}` standing for the class:

    python experiments/train.py --config=configs/generators.py:mnist \
        --config.target_dir=runs/targets --config.aigan_workdir=runs/aigan-mnist-C \
        --config.advgan_workdirs=runs/mnist-C-{}

All that both methods share (`epsilon`, `target`, `seed`, ...) is set here; the rest in
`advgan` and `aigan`, `--config.advgan.training.num_epochs=10`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

_SHARED = (
    "dataset",
    "data_dir",
    "target_model",
    "target_dir",
    "epsilon",
    "parallel",
    "max_resident_bytes",
    "seed",
)


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's comparison."""

    def load(name):
        path = pathlib.Path(__file__).with_name(f"{name}.py")
        return runpy.run_path(str(path))["get_config"](variant)

    advgan, aigan = load("advgan"), load("aigan")
    config = ConfigDict()
    config.method = "generators"
    for name in _SHARED:
        config[name] = advgan.get_ref(name)
        aigan[name] = advgan.get_ref(name)
    for name in ("target", "evaluation"):
        config[name] = aigan[name] = advgan[name]
    config.advgan, config.aigan = advgan, aigan

    config.target_classes = tuple(range(10))
    config.advgan_workdirs = placeholder(str)  # default: trained here
    config.aigan_workdir = placeholder(str)  # default: trained here
    return config
