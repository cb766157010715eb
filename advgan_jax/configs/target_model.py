"""A classifier alone, kept where attack runs find it instead of training their own.

python experiments/train.py --config=configs/target_model.py:mnist \
        --config.target_model=A --config.target_model_dir=runs/target_models
python experiments/train.py --config=configs/advgan.py:mnist \
        --config.target_model=A --config.target_model_dir=runs/target_models
"""

from ml_collections import ConfigDict

from advgan_jax.configs import advgan

_TAKEN = (
    "dataset",
    "data_dir",
    "target_model",
    "target_model_dir",
    "parallel",
    "max_resident_bytes",
    "seed",
)


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's classifier."""
    # A run looks for its target by these values, so they are taken from there.
    whole = advgan.get_config(variant)
    config = ConfigDict()
    config.method = "target_model"
    for name in _TAKEN:
        config[name] = whole.get_ref(name)
    config.target_training = whole.target_training
    config.evaluation = ConfigDict()
    config.evaluation.batch_size = whole.evaluation.batch_size
    return config
