"""Compare many attacks on one target model.

    advgan-jax attack --config=attacks            # digits
    advgan-jax attack --config=attacks:mnist
    advgan-jax attack --config=attacks:cifar10
    advgan-jax attack --config=attacks:mnist --attacks=autoattack,autoattack_l2

`names`, or the flag `--attacks`, lists the attacks in the order of the table. Each has
its hyper-parameters in `attacks` under that name; `kind` is the registry's name where
the two differ. To save time, `names` lacks AutoAttack and `ON_DEMAND`. Override any
value, `--attacks=pgd,fmn --config.attacks.pgd.num_steps=100`.

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
    "apgd_targeted": {"num_steps": 100, "num_classes_tried": 9},
    "fab": {"num_steps": 100},
    "fab_targeted": {"num_steps": 100, "num_classes_tried": 9},
    "ddn": {"num_steps": 100},
    "ead": {"num_search_steps": 9, "num_steps": 100, "l1_weight": 0.1},
    "fmn": {"num_steps": 100},
}
# Not in the table by default; `configs/query_frontier.py` compares them.
QUERY_ATTACKS: dict[str, dict[str, Any]] = {
    "square": {"num_queries": 1_000, "initial_share": 0.8},
    "signhunter": {
        "num_queries": 1_000,
        "loss": "cross_entropy",
        "first_level": 0,
        "middle_first": False,
    },
    "nes": {"num_queries": 1_000, "num_pairs": 25, "radius": 1e-3},
    "spsa": {"num_queries": 1_000, "num_pairs": 25, "radius": 0.01},
    "bandits": {"num_queries": 1_000, "radius": 0.1},
    "simba": {"num_queries": 1_000},
    "rays": {"num_queries": 1_000, "tolerance": 0.03},
    "hop_skip_jump": {"num_queries": 1_000, "norm": "l2"},
}
# At the size of the rows only; see `evaluation.autoattack`.
AUTOATTACK: dict[str, dict[str, Any]] = {
    "autoattack": {"norm": "linf", "version": "standard"},
    "autoattack_l2": {"kind": "autoattack", "norm": "l2", "version": "standard"},
}
# These run if `names` lists them.
ON_DEMAND = ("apgd_targeted", "fab", "fab_targeted", "ddn", "ead", "fmn")


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's comparison."""
    # Generator and target model are those of configs/advgan.py.
    config = advgan.get_config(variant)
    config.method = "attacks"
    config.names = tuple(name for name in HYPERPARAMETERS if name not in ON_DEMAND)
    config.attacks = ConfigDict({**HYPERPARAMETERS, **QUERY_ATTACKS, **AUTOATTACK})

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
