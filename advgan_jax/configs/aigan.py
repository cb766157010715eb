"""AI-GAN: one generator for all classes, against a classifier that the run trains.

    python experiments/train.py --config=configs/aigan.py            # digits
    python experiments/train.py --config=configs/aigan.py:mnist
    python experiments/train.py --config=configs/aigan.py:cifar10

What the attacker buys: the same number of epochs without it,

    python experiments/train.py --config=configs/aigan.py \
        --config.stage_one.num_epochs=0 --config.stage_two.num_epochs=120 \
        --workdir=runs/aigan-stage-two

The method's later version: `--config.discriminator.num_heads=2`, and stage one alone.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's run."""
    # The target model is that of configs/advgan.py, and so is what is not set here.
    config = advgan.get_config(variant)
    config.method = "aigan"
    # AdvGAN's alone: its one class, and how it does without the target model.
    del config.target_class, config.distillation

    # Ten classes want more filters than one; half of the residual blocks pay for them.
    config.generator.widths = (16, 32, 64) if variant != "cifar10" else (64, 128, 256)
    config.generator.num_residual = 2 if variant != "cifar10" else 4
    config.generator.learning_rate = 1e-2 if variant != "cifar10" else 1e-3
    config.discriminator.num_heads = 1
    config.loss.class_weight = 1.0  # of the second head
    if variant == "digits":
        # With less to win beyond the border, stage two shrinks what is added.
        config.loss.confidence = 3.0
        config.loss.gan_weight = 0.3

    # PGD on the target model; the step follows from epsilon and their number.
    config.attacker = ConfigDict()
    config.attacker.num_steps = 5 if variant == "mnist" else 10
    config.attacker.step_size = placeholder(float)
    config.attacker.random_start = True
    config.attacker.loss = "cross_entropy"

    # Two stages on one schedule of learning rates.
    del config.training.num_epochs
    config.stage_one = ConfigDict()
    config.stage_one.num_epochs = {"digits": 20, "mnist": 1, "cifar10": 10}[variant]
    config.stage_two = ConfigDict()
    config.stage_two.num_epochs = {"digits": 100, "mnist": 6, "cifar10": 30}[variant]
    config.training.batch_size = 128 if variant == "cifar10" else 64
    return config
