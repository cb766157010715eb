"""A classifier alone, kept where attack runs find it instead of training their own.

python experiments/train.py --config=configs/target.py:mnist \
        --config.target_model=A --config.target_dir=runs/targets
python experiments/train.py --config=configs/advgan.py:mnist \
        --config.target_model=A --config.target_dir=runs/targets
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = ("digits", "mnist", "cifar10")


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's run."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
    config = ConfigDict()
    config.method = "target"
    config.dataset = variant
    config.data_dir = placeholder(str)  # default: TFDS_DATA_DIR
    config.target_model = {"digits": "small", "mnist": "C", "cifar10": "resnet32"}[
        variant
    ]
    config.target_dir = placeholder(str)  # default: the workdir's `targets`
    config.parallel = "auto"
    config.seed = 0

    # The same values as in configs/advgan.py: a run looks for a target by them.
    config.target = ConfigDict()
    config.target.num_epochs = {"digits": 25, "mnist": 5, "cifar10": 60}[variant]
    config.target.batch_size = 128
    config.target.optimizer = "sgd" if variant == "cifar10" else "adam"
    config.target.learning_rate = 0.1 if variant == "cifar10" else 1e-3
    config.target.weight_decay = 5e-4 if variant == "cifar10" else 0.0
    config.target.label_smoothing = 0.0
    config.target.max_shift = 4 if variant == "cifar10" else 0
    config.target.flip = variant == "cifar10"

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 500
    return config
