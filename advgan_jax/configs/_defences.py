"""How target models are defended: a part of all configurations with a `target`.

`--config.target_training.defence=iterative` chooses one. Its `training` takes the place of the
same names in `target`, so that an attack finds the defended model by the defence's name
and the target folder alone. For the same reason an attack of a defence has its own
epsilon, `--config.target_training.defences.iterative.attack.epsilon`, which `--config.epsilon`,
that of the attack run, does not move.
"""

import copy

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str, epsilon: float) -> ConfigDict:
    """The settings of all defences for one data set."""
    mnist = variant == "mnist"
    one_step = {
        "attack": {"kind": "fgsm", "epsilon": epsilon},
        "clean_weight": 0.5,
        "predicted_labels": True,  # as Tramer's code does, against label leaking
        "warmup_epochs": 0.0,
        "training": {
            "num_epochs": {"digits": 30, "mnist": 6, "cifar10": 60}[variant],
            "batch_size": 64 if mnist else 128,
            "learning_rate": placeholder(float),  # default: the target's
        },
    }
    # Madry takes 40 steps of 0.01 on MNIST; fewer and wider ones let one core finish.
    many_steps = {
        "attack": {
            "kind": "pgd",
            "epsilon": epsilon,
            "num_steps": 5 if mnist else 7,
            "step_size": placeholder(float),  # default: what `pgd` derives
        },
        "predicted_labels": False,
        "warmup_epochs": {"digits": 20.0, "mnist": 2.0, "cifar10": 0.0}[variant],
        "training": {
            "num_epochs": {"digits": 80, "mnist": 7, "cifar10": 60}[variant],
            "batch_size": 128,
            "learning_rate": placeholder(float),
        },
    }
    # Nets that are not defended, trained as `target` says with seeds of their own.
    sources = {
        "digits": ("small", "fc100_100_10"),
        "mnist": ("A", "B", "C"),
        "cifar10": ("resnet32", "resnet32"),
    }[variant]
    # Copied: a dictionary that stands in two places would be one section.
    return ConfigDict(
        {
            "adv": copy.deepcopy(one_step),
            "ensemble": {**one_step, "sources": sources},
            "iterative": {**copy.deepcopy(many_steps), "clean_weight": 0.0},
            "trades": {**many_steps, "divergence_weight": 1.0 if mnist else 6.0},
        }
    )
