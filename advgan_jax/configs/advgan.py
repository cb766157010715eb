"""AdvGAN against a classifier that the same run trains first.

    advgan-jax train --config=advgan            # digits
    advgan-jax train --config=advgan:mnist
    advgan-jax train --config=advgan:cifar10

Override any value: `--config.epsilon=0.2 --config.target_class=3`.

| variant | target model | run time | clean accuracy | success |
|---|---|---|---|---|
| digits | small | 40 s on two cores | 98.9 % | 99.2 % |
| mnist | C | 6 minutes on one core after C | 99.5 % | 99.9 % |
| cifar10 | resnet32 | not measured | not measured | not measured |

The paper specifies neither learning rates nor the batch size of AdvGAN. Here the
generator's rate is 1e-3 in batches of 128. On MNIST it is 1e-2 in batches of 64, with
which it learns twice as fast per second of a CPU.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import _defences

VARIANTS: tuple[str, ...] = ("digits", "mnist", "cifar10")


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's run."""
    check_variant(variant, VARIANTS)
    config = ConfigDict()
    config.method = "advgan"
    config.dataset = variant
    config.data_dir = placeholder(str)  # default: TFDS_DATA_DIR
    config.target_model = {"digits": "small", "mnist": "C", "cifar10": "resnet32"}[
        variant
    ]
    # Of a `target_model` that is imported, `my_package.models:make`.
    config.target_weights = placeholder(str)
    # Default: the folder `target_models` in the workdir.
    config.target_model_dir = placeholder(str)
    config.target_class = placeholder(int)  # default: an untargeted attack
    config.epsilon = 8 / 255 if variant == "cifar10" else 0.3
    config.distillation = placeholder(str)  # default: semi-white-box
    config.parallel = "auto"
    # A data set with more bytes is read during training and not kept on the devices.
    config.max_resident_bytes = 2 * 2**30
    config.seed = 0
    config.target_training = _target_training(variant, config.epsilon)
    config.generator, config.discriminator = _networks(variant)
    config.loss = _loss()
    config.training = _training(variant)
    config.evaluation = ConfigDict()
    config.evaluation.num_images = placeholder(int)  # default: the whole test split
    config.evaluation.batch_size = 500
    config.evaluation.levels = placeholder(int)  # 256: also round images to 8 bits
    config.evaluation.grid_images = 10
    return config


def check_variant(variant: str, known: tuple[str, ...]) -> None:
    """Raise `ValueError` for an unknown variant; its message lists the known ones."""
    if variant not in known:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(known)}."
        )


def _target_training(variant: str, epsilon: float) -> ConfigDict:
    """Return how the target model is trained; see also configs/target_model.py."""
    cifar10 = variant == "cifar10"
    section = ConfigDict()
    section.num_images = placeholder(int)  # default: the whole training split
    section.num_epochs = {"digits": 25, "mnist": 12, "cifar10": 35}[variant]
    # On MNIST about as many steps as Carlini & Wagner's 50 epochs of batches of 128.
    section.batch_size = 32 if variant == "mnist" else 128
    section.optimizer = "sgd" if cifar10 else "adam"
    section.learning_rate = 0.1 if cifar10 else 1e-3
    section.weight_decay = 5e-4 if cifar10 else 0.0
    section.label_smoothing = 0.0
    section.max_shift = 4 if cifar10 else 0
    section.flip = cifar10
    section.compute_dtype = "float32"  # or bfloat16, for accelerators
    section.epochs_per_checkpoint = 1
    section.steps_per_call = placeholder(int)  # default: by platform
    # Or a name in `defences`; see also configs/defence.py.
    section.defence = "none"
    section.defences = _defences.get_config(variant, epsilon)
    return section


def _networks(variant: str) -> tuple[ConfigDict, ConfigDict]:
    """Return the generator and the discriminator."""
    generator, discriminator = ConfigDict(), ConfigDict()
    generator.widths = (8, 16, 32) if variant != "cifar10" else (32, 64, 128)
    generator.num_residual = 4
    generator.learning_rate = 1e-2 if variant == "mnist" else 1e-3
    discriminator.widths = (8, 16, 32)
    discriminator.learning_rate = 1e-3
    return generator, discriminator


def _loss() -> ConfigDict:
    """Return the losses; the paper gives no weights, these were measured.

    `AdvGANObjective` has the same defaults.
    """
    section = ConfigDict()
    section.adversarial = "margin"
    section.confidence = 10.0
    section.gan = "lsgan"
    section.gan_weight = 0.1
    section.hinge_weight = 0.1
    section.hinge_bound = 1.0
    return section


def _training(variant: str) -> ConfigDict:
    """Return how generator and discriminator are trained."""
    section = ConfigDict()
    section.num_epochs = {"digits": 25, "mnist": 4, "cifar10": 40}[variant]
    section.batch_size = 64 if variant == "mnist" else 128
    # Of generator, discriminator and the frozen target model: float32, or bfloat16 for
    # accelerators.
    section.compute_dtype = "float32"
    section.epochs_per_checkpoint = 10 if variant == "digits" else 1
    section.steps_per_call = placeholder(int)  # default: by platform
    return section
