"""A classifier alone, kept where attack runs find it instead of training their own.

python experiments/train.py --config=configs/target.py:mnist \
        --config.target_model=A --config.target_dir=runs/targets
python experiments/train.py --config=configs/advgan.py:mnist \
        --config.target_model=A --config.target_dir=runs/targets
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_TAKEN = (
    "dataset",
    "data_dir",
    "target_model",
    "target_dir",
    "parallel",
    "max_resident_bytes",
    "seed",
)


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's classifier."""
    # A run looks for its target by these values, so they are taken from there.
    advgan = runpy.run_path(str(pathlib.Path(__file__).with_name("advgan.py")))
    whole = advgan["get_config"](variant)
    config = ConfigDict()
    config.method = "target"
    for name in _TAKEN:
        config[name] = whole.get_ref(name)
    config.target = whole.target
    config.evaluation = ConfigDict()
    config.evaluation.batch_size = whole.evaluation.batch_size
    return config
