"""Reject wrong configurations of Szegedy et al.'s studies before any training."""

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.runs import from_config
from advgan_jax.runs.papers import szegedy_models
from advgan_jax.training import layerwise

_CALLS = ("max_iterations", "iterations_per_call", "calls_per_checkpoint")
# Settings of sections that must be at least 1; None means all images.
_COUNTS = {
    "full_batch": _CALLS,
    "autoencoder": _CALLS,
    "evaluation": ("num_images", "batch_size"),
    "units": ("num_directions", "num_images", "num_permutations"),
}


def check_studies(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` or `TypeError` for a wrong configuration."""
    if config.attack not in config.attacks:
        raise unknown_name("attack", config.attack, config.attacks)
    from_config.bound_attack(config, config.attack)
    for group in ("models", "half_models"):
        found = [szegedy_models.parse(name) for name in config[group]]
        titles = [szegedy_models.published_title(config, model) for model in found]
        if not titles or len(set(titles)) < len(titles):
            raise ValueError(
                f"`{group}` must be one or more different names, got "
                f"{', '.join(titles) or 'none'}."
            )
    used = (*config.models, *config.half_models, *config.spectral_models)
    for name in dict.fromkeys((*used, *config.units.models)):
        _check_model(config, dataset, szegedy_models.parse(name).name)
    _check_sizes(config, dataset)
    for name in (szegedy_models.parse(name).name for name in config.units.models):
        if name in config.networks and not config.networks[name].hidden:
            raise ValueError(
                f"`units.models` must have hidden units, {name!r} has none; remove it."
            )
    _check_layerwise(config, dataset)


def _check_model(config: ConfigDict, dataset: Dataset, name: str) -> None:
    if name in config.networks:
        network, units = config.networks[name], config.autoencoder.units
        layers = 1 if network.autoencoder else len(network.hidden) + 1
        if len(network.weight_decay) != layers:
            raise ValueError(
                f"`networks.{name}.weight_decay` must be {layers} numbers, one for "
                f"each trained layer, got {tuple(network.weight_decay)}."
            )
        if network.autoencoder and tuple(network.hidden) != (units,):
            raise ValueError(
                f"`networks.{name}.hidden` must be ({units},), the units of the "
                f"autoencoder, got {tuple(network.hidden)}."
            )
        return
    if name not in models.CLASSIFIERS:
        raise unknown_name("model", name, (*config.networks, *models.CLASSIFIERS))
    module = models.make_classifier(name, dataset.num_classes)
    image = jax.ShapeDtypeStruct((1, *dataset.train.image_shape), np.float32)
    jax.eval_shape(module.init, jax.random.key(0), image)
    from_config.make_optimizer(config.target_training, 1)
    from_config.training_plan(config.target_training, dataset)


def _check_sizes(config: ConfigDict, dataset: Dataset) -> None:
    for section, names in _COUNTS.items():
        for name in names:
            if config[section][name] is not None:
                check_at_least(f"{section}.{name}", config[section][name], 1)
    for section in ("full_batch", "autoencoder"):
        for name in ("gradient_tolerance", "value_tolerance"):
            check_at_least(f"{section}.{name}", config[section][name], 0)
    for size in (*config.noise, config.amplified_to):
        check_at_least("noise and amplified_to", size, 0)
    for section, split, images in (
        ("autoencoder", dataset.train, "training images, or omitted for all"),
        ("units", dataset.test, "test images"),
    ):
        wanted, most = config[section].num_images, len(split)
        if wanted is not None and wanted > most:
            raise ValueError(
                f"`{section}.num_images` must be from 1 to the {most} {images}; got "
                f"{wanted}."
            )


def _check_layerwise(config: ConfigDict, dataset: Dataset) -> None:
    section = config.layerwise
    if section.model not in config.networks:
        raise unknown_name("model of `layerwise`", section.model, config.networks)
    from_config.training_plan(section, dataset)
    optimizer = from_config.make_optimizer(section, 1)
    szegedy_models.layerwise_attack(config)
    known = szegedy_models.variants(len(config.networks[section.model].hidden))
    for name in section.variants:
        if name not in known:
            raise unknown_name("variant of `layerwise`", name, known)
    if not section.variants:
        raise ValueError(
            f"`layerwise.variants` must name at least one of {', '.join(known)}."
        )
    module, mixture, _ = szegedy_models.layerwise_parts(config, dataset, "all layers")
    shape, key = dataset.train.image_shape, jax.random.key(0)
    jax.eval_shape(lambda: layerwise.init_state(module, optimizer, key, shape, mixture))
