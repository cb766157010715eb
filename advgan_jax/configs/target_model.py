r"""Train only a classifier, in a folder where attack runs find it.

    advgan-jax train --config=target_model:mnist \
        --config.target_model=A --config.target_model_dir=runs/target_models
    advgan-jax train --config=advgan:mnist \
        --config.target_model=A --config.target_model_dir=runs/target_models

On digits (seconds) the model has a clean accuracy of 98.9 %, on MNIST C has 99.5 %.
"""

from ml_collections import ConfigDict

from advgan_jax.configs import advgan

_SHARED = (
    "dataset",
    "data_dir",
    "target_model",
    "target_model_dir",
    "parallel",
    "max_resident_bytes",
    "seed",
)


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's classifier."""
    # An attack run finds the model by these values, so both must have the same.
    whole = advgan.get_config(variant)
    config = ConfigDict()
    config.method = "target_model"
    for name in _SHARED:
        config[name] = whole.get_ref(name)
    config.target_training = whole.target_training
    config.evaluation = ConfigDict()
    config.evaluation.batch_size = whole.evaluation.batch_size
    return config
