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

from advgan_jax import parallel
from advgan_jax.attacks import BoundAttack, make_attack
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.training import fit
from advgan_jax.training.precision import COMPUTE_DTYPES

OPTIMIZERS = ("adam", "sgd")
UNDEFENDED = "none"  # the defence of most target models


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


def make_optimizer(section: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Return a classifier's optimiser: Adam, or SGD with Nesterov momentum 0.9.

    Its learning rate falls to zero along a cosine. Weight decay adds to the gradient.
    """
    if section.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", section.optimizer, OPTIMIZERS)
    schedule = optax.cosine_decay_schedule(section.learning_rate, max(num_steps, 1))
    sgd = optax.sgd(schedule, momentum=0.9, nesterov=True)
    rule = optax.adam(schedule) if section.optimizer == "adam" else sgd
    return optax.chain(optax.add_decayed_weights(section.weight_decay), rule)


def training_plan(section: ConfigDict, dataset: Dataset) -> fit.Plan:
    """Return the length and the batches of the training that a section specifies."""
    check_at_least("epochs_per_checkpoint", section.epochs_per_checkpoint, 1)
    sizes, per_call = (section.batch_size, section.num_epochs), section.steps_per_call
    if per_call is None:
        per_call = parallel.default_steps_per_call()
    return fit.Plan(len(dataset.train), *sizes, per_call)


def compute_dtype(section: ConfigDict) -> str:
    """Return a section's `compute_dtype`, one of `COMPUTE_DTYPES`."""
    if section.compute_dtype not in COMPUTE_DTYPES:
        raise unknown_name("compute_dtype", section.compute_dtype, COMPUTE_DTYPES)
    return section.compute_dtype


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
