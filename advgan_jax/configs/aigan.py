r"""AI-GAN: one generator for all classes, against a classifier that the run trains.

    advgan-jax train --config=aigan            # digits
    advgan-jax train --config=aigan:mnist
    advgan-jax train --config=aigan:cifar10

Train for the same number of epochs without the attacker of stage one:

    advgan-jax train --config=aigan \
        --config.stage_one.num_epochs=0 --config.stage_two.num_epochs=120 \
        --workdir=runs/aigan-stage-two

The later version of the method has `--config.discriminator.num_heads=2` and stage one
alone.

| variant | target model | run time | success after stage one | after stage two |
|---|---|---|---|---|
| digits | small | 80 s on two cores | 93.9 % | 95.6 % |
| mnist | C | 18 minutes on one core after C | 89.7 % | 98.5 % |
| cifar10 | resnet32 | not measured | not measured | not measured |
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's run."""
    # All other settings are those of configs/advgan.py.
    config = advgan.get_config(variant)
    config.method = "aigan"
    # Only AdvGAN has one wanted class or a black box.
    del config.target_class, config.distillation

    # Ten classes need more filters than one; half of the residual blocks pay for them.
    config.generator.widths = (16, 32, 64) if variant != "cifar10" else (64, 128, 256)
    config.generator.num_residual = 2 if variant != "cifar10" else 4
    config.generator.learning_rate = 1e-2 if variant != "cifar10" else 1e-3
    config.discriminator.num_heads = 1
    config.loss.class_weight = 1.0  # of the second head
    if variant == "digits":
        # With a smaller margin stage two reduces the perturbation.
        config.loss.confidence = 3.0
        config.loss.gan_weight = 0.3

    # PGD on the target model; by default epsilon and num_steps determine the step size.
    config.attacker = ConfigDict()
    config.attacker.num_steps = 5 if variant == "mnist" else 10
    config.attacker.step_size = placeholder(float)
    config.attacker.random_start = True
    config.attacker.loss = "cross_entropy"

    # Both stages share one schedule of learning rates.
    del config.training.num_epochs
    config.stage_one = ConfigDict()
    config.stage_one.num_epochs = {"digits": 20, "mnist": 1, "cifar10": 10}[variant]
    config.stage_two = ConfigDict()
    config.stage_two.num_epochs = {"digits": 100, "mnist": 6, "cifar10": 30}[variant]
    config.training.batch_size = 128 if variant == "cifar10" else 64
    return config
