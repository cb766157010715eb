"""Compare many attacks on one target model.

    python experiments/attack.py --config=configs/attacks.py            # digits
    python experiments/attack.py --config=configs/attacks.py:mnist
    python experiments/attack.py --config=configs/attacks.py:cifar10

`names` lists the attacks in the order of the table. Each has its hyper-parameters in
`attacks` under that name; `kind` is the registry's name where the two differ. Override
any value, `--config.names="('pgd','lbfgs')" --config.attacks.pgd.num_steps=100`.

Digits take three minutes on two cores. FGSM, PGD and AdvGAN succeed on 99 to 100 % of
the images within 0.3 in L-infinity, PGD on 92.4 % within 1 in L2.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan

HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "advgan": {},
    "fgsm": {},
    "bim": {"num_steps": 40},
    "ilcm": {"num_steps": 40},
    "mi_fgsm": {"num_steps": 10, "decay": 1.0},
    "pgd": {"num_steps": 40, "num_restarts": 1, "loss": "cross_entropy"},
    "apgd": {"num_steps": 100, "num_restarts": 1, "loss": "dlr"},
    "transfer": {"num_steps": 40},
    "pgd_l2": {"kind": "pgd", "norm": "l2", "num_steps": 40, "num_restarts": 1},
    "carlini_wagner_linf": {"num_steps": 100, "learning_rate": 5e-3},
    "deepfool": {"num_steps": 50, "overshoot": 0.02},
    "carlini_wagner_l2": {
        "num_search_steps": 9,
        "num_steps": 200,
        "learning_rate": 1e-2,
        "initial_loss_weight": 1.0,
        "confidence": 0.0,
    },
    "lbfgs": {"solver": "projected", "num_search_steps": 12, "num_steps": 60},
}


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's comparison."""
    # Generator and target model are those of configs/advgan.py.
    config = advgan.get_config(variant)
    config.method = "attacks"
    config.names = tuple(HYPERPARAMETERS)
    config.attacks = ConfigDict(HYPERPARAMETERS)

    # Untargeted, unless `target_class` is set or each image gets a random wanted class.
    config.random_targets = False
    # Rows have attacks within `epsilon` (L-infinity) or `epsilon_l2`; curves have the
    # other sizes, too. Attacks that minimise the distance have no size.
    config.epsilons = tuple(config.epsilon * k / 6 for k in range(1, 7))
    config.epsilon_l2 = {"digits": 1.0, "mnist": 2.0, "cifar10": 0.5}[variant]
    config.epsilons_l2 = tuple(config.epsilon_l2 * k / 4 for k in range(1, 7))

    # The model that `transfer` attacks, trained like the target model.
    config.surrogate = ConfigDict()
    config.surrogate.target_model = placeholder(str)  # default: the same
    config.surrogate.seed = placeholder(int)  # default: `seed` + 1

    config.evaluation.num_images = {"digits": 360, "mnist": 500, "cifar10": 200}[
        variant
    ]
    config.evaluation.batch_size = 250
    return config
