"""A classifier that is trained against attacks, and what then remains of them.

    python experiments/train.py --config=configs/defence.py            # digits
    python experiments/train.py --config=configs/defence.py:mnist
    python experiments/train.py --config=configs/defence.py:cifar10

`--config.target_training.defence` is `adv` (FGSM), `ensemble`, `iterative` (PGD, the default) or
`trades`; its settings are in `target_training.defences`. Another attack can take the place of
theirs, `--config.target_training.defences.adv.attack.kind=mi_fgsm`; one that takes other numbers
needs a configuration file of its own. `--config.epsilon` is that of the measurement;
the training's is `--config.target_training.defences.iterative.attack.epsilon`. The default takes
a minute on digits; on MNIST seven epochs of PGD of five steps take about 40 minutes on
one CPU core and leave 98.8 % on clean images, 91.2 % under PGD of 40 steps (Madry:
98.8, 93.2). Attack runs find the classifier where it was left:

    python experiments/train.py --config=configs/defence.py:mnist \
        --config.target_model_dir=runs/target_models
    python experiments/train.py --config=configs/advgan.py:mnist \
        --config.target_model_dir=runs/target_models --config.target_model=madry \
        --config.target_training.defence=iterative
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import target_model


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's defended classifier."""
    # The target section is the one that attack runs have.
    config = target_model.get_config(variant)
    config.method = "defence"
    config.target_model = {"digits": "small", "mnist": "madry", "cifar10": "resnet32"}[
        variant
    ]
    config.target_training.defence = "iterative"

    # Measured when it is trained, on the test images.
    config.epsilon = 8 / 255 if variant == "cifar10" else 0.3
    config.epsilons = ()
    config.random_targets = False
    config.target_class = placeholder(int)
    config.names = ("fgsm", "pgd")
    config.attacks = ConfigDict()
    config.attacks.fgsm = ConfigDict()
    config.attacks.pgd = ConfigDict()
    config.attacks.pgd.num_steps = 20 if variant == "cifar10" else 40
    config.attacks.pgd.step_size = 2 / 255 if variant == "cifar10" else 0.01
    config.evaluation.num_images = placeholder(int)  # default: the whole test split
    config.evaluation.grid_images = 10
    return config
