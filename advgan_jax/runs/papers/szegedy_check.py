"""Reject wrong configurations of Szegedy et al.'s studies before any training."""

import dataclasses
from functools import partial

import jax
from ml_collections import ConfigDict

from advgan_jax.attacks import trace_attack
from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.models import CLASSIFIERS
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.papers import layerwise_models
from advgan_jax.runs.papers.szegedy_models import parse, published_title
from advgan_jax.training import layerwise


def check_studies(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` or `TypeError` for a wrong configuration."""
    if config.attack not in config.attacks:
        raise unknown_name("attack", config.attack, config.attacks)
    shape, num_classes = dataset.train.image_shape, dataset.num_classes
    targeted = from_config.check_targets(config, num_classes)
    attack = from_config.bound_attack(config, config.attack)
    trace_attack(attack, shape, num_classes, targeted=targeted)
    for group in ("models", "half_models"):
        titles = [published_title(config, parse(name)) for name in config[group]]
        if len(set(titles)) < len(titles):
            raise ValueError(
                f"`{group}` must be different models, got {', '.join(titles)}."
            )
    used = (*config.models, *config.half_models, *config.spectral_models)
    for name in dict.fromkeys((*used, *config.units.models)):
        _check_model(config, dataset, parse(name).name)
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
    for name in (parse(name).name for name in config.units.models):
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
    if name not in CLASSIFIERS:
        raise unknown_name("model", name, (*config.networks, *CLASSIFIERS))
    own = config.copy_and_resolve_references()
    own.target_model = name
    target_model.check(own, dataset)


def _check_layerwise(config: ConfigDict, dataset: Dataset) -> None:
    section = config.layerwise
    if section.model not in config.networks:
        raise unknown_name("model of `layerwise`", section.model, config.networks)
    known = layerwise_models.variants(len(config.networks[section.model].hidden))
    for name in section.variants:
        if name not in known:
            raise unknown_name("variant of `layerwise`", name, known)
    layers, most = len(config.networks[section.model].hidden) + 1, len(dataset.train)
    if len(section.decays) != layers:
        raise ValueError(
            f"`layerwise.decays` must be {layers} numbers, one for each layer, got "
            f"{tuple(section.decays)}."
        )
    if section.num_epochs < 1:  # it would have no curves
        raise ValueError("`layerwise.num_epochs` must be at least 1, got 0.")
    if section.num_validation >= most:
        raise ValueError(
            f"`layerwise.num_validation` must be less than the {most} training images, "
            f"got {section.num_validation}."
        )
    kept = layerwise_models.split(config, dataset, "trained on")
    dataset = dataclasses.replace(dataset, train=kept)
    parts, _ = layerwise_models.parts_of(config, dataset, "all layers")
    (module, optimizer, attack, mixture), key = parts, jax.random.key(0)
    shape = dataset.train.image_shape
    trace_attack(attack, shape, dataset.num_classes)
    init = partial(layerwise.init_state, module, optimizer, key, shape, mixture)
    jax.eval_shape(init)
