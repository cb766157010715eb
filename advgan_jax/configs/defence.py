r"""A classifier that is trained against attacks, and its accuracy under attacks.

    advgan-jax train --config=defence            # digits
    advgan-jax train --config=defence:mnist
    advgan-jax train --config=defence:cifar10

`--config.target_training.defence` is `adv` (FGSM), `ensemble`, `iterative` (PGD, the
default) or `trades`; `target_training.defences` has their settings. The training may
use another attack, `--config.target_training.defences.adv.attack.kind=mi_fgsm`; an
attack with other parameters needs a configuration file of its own. `--config.epsilon`
belongs to the measurement,
`--config.target_training.defences.iterative.attack.epsilon` to the training.

| variant | run time | clean accuracy | under PGD of 40 steps |
|---|---|---|---|
| digits | a minute on one core | not measured | not measured |
| mnist (model madry) | 40 minutes on one core | 98.8 % (Madry: 98.8) | 91.2 % (93.2) |

Attack runs find the classifier in its folder:

    advgan-jax train --config=defence:mnist \
        --config.target_model_dir=runs/target_models
    advgan-jax train --config=advgan:mnist \
        --config.target_model_dir=runs/target_models --config.target_model=madry \
        --config.target_training.defence=iterative
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import target_model


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's defended classifier."""
    # The section `target_training` is that of attack runs.
    config = target_model.get_config(variant)
    config.method = "defence"
    config.target_model = {"digits": "small", "mnist": "madry", "cifar10": "resnet32"}[
        variant
    ]
    config.target_training.defence = "iterative"

    # The attacks after the training, on test images.
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
    config.evaluation.levels = placeholder(int)  # 256: also round images to 8 bits
    return config
