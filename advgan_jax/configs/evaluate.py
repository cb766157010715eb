r"""Evaluate a trained generator on a data set and a target model.

    advgan-jax evaluate runs/advgan-digits-small --levels=256
    advgan-jax evaluate runs/advgan-mnist-C --config.target_model=A
    advgan-jax evaluate saved --config=evaluate:mnist \
        --config.target_model=my_package.models:make

The folder is the workdir of a run or a saved generator. For a workdir, the default is
the run's own data set and target model. The generator keeps its own epsilon.
"""

import pathlib

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan
from advgan_jax.files import read_json

VARIANTS: tuple[str, ...] = advgan.VARIANTS
_SHARED = (
    *("dataset", "data_dir", "target_model", "target_weights", "target_model_dir"),
    *("parallel", "max_resident_bytes", "seed"),
)


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set, or of the run in a workdir."""
    is_known = variant in VARIANTS
    whole = advgan.get_config(variant if is_known else "digits")
    config = ConfigDict()
    config.method = "evaluate"
    config.generator_dir = placeholder(str)  # a workdir, or a saved generator
    for name in _SHARED:
        config[name] = whole.get_ref(name)
    config.target_training = whole.target_training
    config.evaluation = whole.evaluation
    if not is_known:
        _follow(config, variant)
    return config


def _follow(config: ConfigDict, workdir: str) -> None:
    """Take over the data set and the target model of a run."""
    path = pathlib.Path(workdir, "config.json")
    if not path.is_file():
        advgan.check_variant(workdir, VARIANTS)
    saved = read_json(path, "the configuration of a run", "give another folder")
    if "target_training" not in saved:
        raise ValueError(f"{workdir} holds a run without a generator of its own.")
    config.update({name: saved[name] for name in _SHARED if name in saved})
    config.target_training = ConfigDict(saved["target_training"])
    config.generator_dir = workdir
    if config.target_model_dir is None:
        config.target_model_dir = str(path.parent / "target_models")
