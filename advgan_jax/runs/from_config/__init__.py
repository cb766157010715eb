"""From a configuration to objects, and to the settings on which a result depends.

This module reads the settings that all runs share; `gans` and `target_models` read
those of training. All raise `ValueError` or `TypeError` for a wrong setting.
"""

import json
from functools import reduce
from operator import getitem
from typing import Any

import optax
from ml_collections import ConfigDict

from advgan_jax.attacks import BoundAttack, make_attack
from advgan_jax.checks import LARGEST_SEED, check_class
from advgan_jax.data import Dataset
from advgan_jax.trainers import Options
from advgan_jax.training import fit


def plain(config: ConfigDict) -> dict[str, Any]:
    """Return a configuration as JSON values; placeholders without a value are None."""
    return json.loads(json.dumps(config.to_dict()))


def select(config: ConfigDict, *names: str) -> dict[str, Any]:
    """Return settings as JSON values, by dotted names such as `training.batch_size`."""
    values = plain(config)
    return {name: reduce(getitem, name.split("."), values) for name in names}


def without_none(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that have a value."""
    return {name: value for name, value in settings.items() if value is not None}


def check_targets(config: ConfigDict, num_classes: int) -> bool:
    """Return whether attacks are targeted; raise `ValueError` for a wrong target."""
    wanted, is_random = config.target_class, config.get("random_targets", False)
    if is_random and wanted is not None:
        raise ValueError(
            "`random_targets` and `target_class` exclude each other; set one."
        )
    check_class(wanted, num_classes)
    return is_random or wanted is not None


def make_optimizer(section: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Return a classifier's optimiser: Adam, or SGD with Nesterov momentum 0.9.

    Its learning rate falls to zero along a cosine. Weight decay adds to the gradient.
    """
    schedule = optax.cosine_decay_schedule(section.learning_rate, max(num_steps, 1))
    sgd = optax.sgd(schedule, momentum=0.9, nesterov=True)
    rule = {"adam": optax.adam(schedule), "sgd": sgd}[section.optimizer]
    return optax.chain(optax.add_decayed_weights(section.weight_decay), rule)


def training_plan(
    section: ConfigDict, dataset: Dataset, num_epochs: int | None = None
) -> fit.Plan:
    """Return the length of a section's training, or of one of `num_epochs`."""
    length: int = section.num_epochs if num_epochs is None else num_epochs
    options = Options(steps_per_call=section.steps_per_call)
    return options.plan(len(dataset.train), section.batch_size, length)


def later_seed(config: ConfigDict, number: int) -> int:
    """Return the seed of another model; the one after the largest is 0."""
    return (config.seed + number) % (LARGEST_SEED + 1)


def registry_name(config: ConfigDict, name: str) -> str:
    """Return the registry's name of the attack that `config.attacks` calls `name`."""
    return config.attacks[name].get("kind", name)


def bound_attack(config: ConfigDict, name: str, **models: Any) -> BoundAttack:
    """Return an attack with the hyper-parameters of its section of `config.attacks`.

    `models` holds arguments that no configuration can contain.
    """
    hyperparams = plain(config.attacks[name])
    hyperparams.pop("kind", None)
    return make_attack(registry_name(config, name), **hyperparams, **models)
