"""The defences of target models, a part of every `target_training`.

`--config.target_training.defence=iterative` chooses one. Its section `training`
replaces settings of the same names in `target_training`. An attack run therefore finds
the defended model by the defence's name and `target_model_dir` alone. The attack of a
defence has its own epsilon,
`--config.target_training.defences.iterative.attack.epsilon`. The attack run's
`--config.epsilon` does not change the defended model.
"""

import copy

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str, epsilon: float) -> ConfigDict:
    """Return the settings of all defences for one data set."""
    mnist = variant == "mnist"
    one_step = {
        "attack": {"kind": "fgsm", "epsilon": epsilon},
        "clean_weight": 0.5,
        "predicted_labels": True,  # like Tramer's code, against label leaking
        "warmup_epochs": 0.0,
        "training": {
            "num_epochs": {"digits": 30, "mnist": 6, "cifar10": 60}[variant],
            "batch_size": 64 if mnist else 128,
            "learning_rate": placeholder(float),  # default: that of `target_training`
        },
    }
    # Madry uses 40 steps of 0.01 on MNIST; one core can do fewer and larger steps.
    many_steps = {
        "attack": {
            "kind": "pgd",
            "epsilon": epsilon,
            "num_steps": 5 if mnist else 7,
            "step_size": placeholder(float),  # default: derived by `pgd`
        },
        "predicted_labels": False,
        "warmup_epochs": {"digits": 20.0, "mnist": 2.0, "cifar10": 0.0}[variant],
        "training": {
            "num_epochs": {"digits": 80, "mnist": 7, "cifar10": 60}[variant],
            "batch_size": 128,
            "learning_rate": placeholder(float),
        },
    }
    # Undefended models, trained as `target_training` specifies, with other seeds.
    sources = {
        "digits": ("small", "fc100_100_10"),
        "mnist": ("A", "B", "C"),
        "cifar10": ("resnet32", "resnet32"),
    }[variant]
    # Copy, because one dictionary in two places would become one section.
    return ConfigDict(
        {
            "adv": copy.deepcopy(one_step),
            "ensemble": {**one_step, "sources": sources},
            "iterative": {**copy.deepcopy(many_steps), "clean_weight": 0.0},
            "trades": {**many_steps, "divergence_weight": 1.0 if mnist else 6.0},
        }
    )
