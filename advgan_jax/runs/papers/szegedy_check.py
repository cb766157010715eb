"""Reject wrong configurations of Szegedy et al.'s studies before any training."""

from functools import partial

import jax
from ml_collections import ConfigDict

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.models import CLASSIFIERS
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.papers.szegedy_models import (
    DEPENDS_ON,
    TOLERANCES,
    layerwise_parts,
    parse,
    published_title,
    variants,
)
from advgan_jax.training import layerwise

_CALLS = ("max_iterations", "iterations_per_call", "calls_per_checkpoint")
# Settings of a section and their least value; a number of images may be None.
_MINIMA = (
    ("full_batch", _CALLS, 1),
    ("full_batch", TOLERANCES, 0),
    ("autoencoder", (*_CALLS, "num_images"), 1),
    ("autoencoder", TOLERANCES, 0),
    ("evaluation", DEPENDS_ON["evaluation"], 1),
    ("units", DEPENDS_ON["units"], 1),
)


def check_studies(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` or `TypeError` for a wrong configuration."""
    if config.attack not in config.attacks:
        raise unknown_name("attack", config.attack, config.attacks)
    from_config.bound_attack(config, config.attack)
    for group in ("models", "half_models"):
        titles = [published_title(config, parse(name)) for name in config[group]]
        if not titles or len(set(titles)) < len(titles):
            raise ValueError(
                f"`{group}` must be one or more different names, got "
                f"{', '.join(titles) or 'none'}."
            )
    used = (*config.models, *config.half_models, *config.spectral_models)
    for name in dict.fromkeys((*used, *config.units.models)):
        _check_model(config, dataset, parse(name).name)
    for section, names, least in _MINIMA:
        for name, value in from_config.select(config[section], *names).items():
            if value is not None or name != "num_images":
                check_at_least(f"{section}.{name}", value, least)
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
    known = variants(len(config.networks[section.model].hidden))
    for name in section.variants:
        if name not in known:
            raise unknown_name("variant of `layerwise`", name, known)
    if not section.variants:
        raise ValueError(
            f"`layerwise.variants` must name at least one of {', '.join(known)}."
        )
    (module, optimizer, _, mixture), _ = layerwise_parts(config, dataset, "all layers")
    shape, key = dataset.train.image_shape, jax.random.key(0)
    init = partial(layerwise.init_state, module, optimizer, key, shape, mixture)
    jax.eval_shape(init)
