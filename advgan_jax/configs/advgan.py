"""AdvGAN against a classifier that the same run trains first.

    python experiments/train.py --config=configs/advgan.py            # digits
    python experiments/train.py --config=configs/advgan.py:mnist
    python experiments/train.py --config=configs/advgan.py:cifar10

Override any value: `--config.epsilon=0.2 --config.target_class=3`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import _defences

VARIANTS = ("digits", "mnist", "cifar10")


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's run."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
    config = ConfigDict()
    config.method = "advgan"
    config.dataset = variant
    config.data_dir = placeholder(str)  # default: TFDS_DATA_DIR
    config.target_model = {"digits": "small", "mnist": "C", "cifar10": "resnet32"}[
        variant
    ]
    config.target_model_dir = placeholder(str)  # default: the workdir's `target_models`
    config.target_class = placeholder(int)  # none: untargeted
    config.epsilon = 8 / 255 if variant == "cifar10" else 0.3
    config.distillation = placeholder(str)  # none: semi-white-box
    config.parallel = "auto"
    # Training images of more bytes are read while training, not kept on the devices.
    config.max_resident_bytes = 2 * 2**30
    config.seed = 0

    # The target model's training; see also configs/target_model.py.
    config.target_training = ConfigDict()
    config.target_training.num_images = placeholder(
        int
    )  # default: the whole training split
    config.target_training.num_epochs = {"digits": 25, "mnist": 12, "cifar10": 60}[
        variant
    ]
    # On MNIST about as many steps as Carlini & Wagner's 50 epochs of batches of 128.
    config.target_training.batch_size = 32 if variant == "mnist" else 128
    config.target_training.optimizer = "sgd" if variant == "cifar10" else "adam"
    config.target_training.learning_rate = 0.1 if variant == "cifar10" else 1e-3
    config.target_training.weight_decay = 5e-4 if variant == "cifar10" else 0.0
    config.target_training.label_smoothing = 0.0
    config.target_training.max_shift = 4 if variant == "cifar10" else 0
    config.target_training.flip = variant == "cifar10"
    config.target_training.compute_dtype = "float32"  # or bfloat16, for accelerators
    config.target_training.epochs_per_checkpoint = 1
    config.target_training.steps_per_call = placeholder(int)  # default: by platform
    config.target_training.defence = (
        "none"  # or a name in `defences`; see also defence.py
    )
    config.target_training.defences = _defences.get_config(variant, config.epsilon)

    # Generator and discriminator; the paper gives no weights, these were measured.
    config.generator = ConfigDict()
    config.generator.widths = (8, 16, 32) if variant != "cifar10" else (32, 64, 128)
    config.generator.num_residual = 4
    config.generator.learning_rate = 1e-2 if variant == "mnist" else 1e-3
    config.discriminator = ConfigDict()
    config.discriminator.widths = (8, 16, 32)
    config.discriminator.learning_rate = 1e-3

    config.loss = ConfigDict()
    config.loss.adversarial = "margin"
    config.loss.confidence = 10.0
    config.loss.gan = "lsgan"
    config.loss.gan_weight = 0.1
    config.loss.hinge_weight = 0.1
    config.loss.hinge_bound = 1.0

    config.training = ConfigDict()
    config.training.num_epochs = {"digits": 25, "mnist": 4, "cifar10": 40}[variant]
    config.training.batch_size = 64 if variant == "mnist" else 128
    # What generator, discriminator and the frozen target model multiply in while the
    # first two are trained: float32, or bfloat16 for accelerators.
    config.training.compute_dtype = "float32"
    config.training.epochs_per_checkpoint = 10 if variant == "digits" else 1
    config.training.steps_per_call = placeholder(int)  # default: by platform

    config.evaluation = ConfigDict()
    config.evaluation.num_images = placeholder(int)  # default: the whole test split
    config.evaluation.batch_size = 500
    config.evaluation.grid_images = 10
    return config
