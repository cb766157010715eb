"""What the studies of Szegedy et al. reject before anything is trained."""

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.runs import from_config
from advgan_jax.runs.papers import szegedy_models
from advgan_jax.training import layerwise


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` or `TypeError` for a wrong configuration."""
    if config.attack not in config.attacks:
        raise unknown_name("attack", config.attack, config.attacks)
    from_config.bound_attack(config, config.attack)
    for group in (config.models, config.half_models):
        found = [szegedy_models.parse(name) for name in group]
        titles = [szegedy_models.printed_title(config, model) for model in found]
        if not titles or len(set(titles)) < len(titles):
            raise ValueError(
                "The models that are shown each other's images must be at least one "
                f"and have different names, got {', '.join(titles) or 'none'}."
            )
    used = (*config.models, *config.half_models, *config.spectral_models)
    for name in dict.fromkeys((*used, *config.units.models)):
        _check_model(config, dataset, szegedy_models.parse(name).name)
    _check_sizes(config, dataset)
    for size in (*config.noise, config.amplified_to):
        check_at_least("noise and amplified_to", size, 0)
    _check_layerwise(config, dataset)


def _check_model(config: ConfigDict, dataset: Dataset, name: str) -> None:
    if name in config.networks:
        network = config.networks[name]
        layers = 1 if network.autoencoder else len(network.hidden) + 1
        if len(network.weight_decay) != layers:
            raise ValueError(
                f"`networks.{name}.weight_decay` must be {layers} numbers, one for "
                f"each trained layer, got {tuple(network.weight_decay)}."
            )
        if network.autoencoder and tuple(network.hidden) != (config.autoencoder.units,):
            raise ValueError(
                f"`networks.{name}.hidden` must be ({config.autoencoder.units},), the "
                f"units of the autoencoder, got {tuple(network.hidden)}."
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
    calls = ("max_iterations", "iterations_per_call", "calls_per_checkpoint")
    counts = {
        "full_batch": calls,
        "autoencoder": calls,
        "evaluation": ("num_images", "batch_size"),
        "units": ("num_directions", "num_images", "num_permutations"),
    }
    for section, names in counts.items():
        for name in names:
            if config[section][name] is not None:
                check_at_least(f"{section}.{name}", config[section][name], 1)
    for section in (config.full_batch, config.autoencoder):
        for name in ("gradient_tolerance", "value_tolerance"):
            check_at_least(name, section[name], 0)
    wanted, most = config.autoencoder.num_images, len(dataset.train)
    if wanted is not None and not 1 <= wanted <= most:
        raise ValueError(
            f"`autoencoder.num_images` must be from 1 to the {most} training images, "
            f"got {wanted}; omit it for all."
        )
    if config.units.num_images > len(dataset.test):
        raise ValueError(
            f"`units.num_images` must be at most the {len(dataset.test)} test images, "
            f"got {config.units.num_images}."
        )
    for name in (szegedy_models.parse(name).name for name in config.units.models):
        if name in config.networks and not config.networks[name].hidden:
            raise ValueError(
                f"`units.models` must have hidden units, {name!r} has none; remove it."
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
