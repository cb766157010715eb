"""Szegedy et al., "Intriguing properties of neural networks": its studies as runs.

Each leaves a table (CSV and Markdown) and a figure in the workdir. Nets are trained
once and shared by all of them; so are the adversarial images.
"""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.runs import from_config
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import (
    distortion,
    layerwise,
    nets,
    spectral,
    transfer,
    units,
)

STUDIES = {
    "distortion": distortion.study,
    "cross-model": transfer.cross_model,
    "cross-training-set": transfer.cross_training_set,
    "spectral": spectral.study,
    "units": units.study,
    "layerwise": layerwise.study,
}
ALL = "all"


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    if config.study not in (*STUDIES, ALL):
        raise unknown_name("study", config.study, (*STUDIES, ALL))
    if config.attack not in config.attacks:
        raise unknown_name("attack", config.attack, config.attacks)
    from_config.bound_attack(config, config.attack)
    for name in (*config.models, *config.half_models, *config.spectral_models):
        _check_net(config, dataset, name)
    for name in config.units.models:
        _check_net(config, dataset, name)
    for group in (config.models, config.half_models):
        titles = [nets.title_of(config, name) for name in group]
        if not titles or len(set(titles)) < len(titles):
            raise ValueError(
                "The nets that are shown each other's images must be at least one and "
                f"have names of their own, got {', '.join(titles) or 'none'}."
            )
    _check_full_batch(config, dataset)
    _check_units(config, dataset)
    for name in ("num_images", "batch_size"):
        if config.evaluation[name] is not None:
            check_at_least(f"evaluation.{name}", config.evaluation[name], 1)
    for size in (*config.noise, config.amplified_to):
        check_at_least("noise and amplified_to", size, 0)
    if config.layerwise.net not in config.nets:
        raise unknown_name("net of `layerwise`", config.layerwise.net, config.nets)
    layerwise.check(config, dataset)


def _check_net(config: ConfigDict, dataset: Dataset, name: str) -> None:
    base, _ = nets.parse(name)
    if base in config.nets:
        net = config.nets[base]
        layers = 1 if net.autoencoder else len(net.hidden) + 1
        if len(net.weight_decay) != layers:
            raise ValueError(
                f"`nets.{base}.weight_decay` must be {layers} numbers, one for each "
                f"trained layer, got {tuple(net.weight_decay)}."
            )
        if net.autoencoder and tuple(net.hidden) != (config.autoencoder.units,):
            raise ValueError(
                f"`nets.{base}.hidden` must be ({config.autoencoder.units},), the "
                f"units of the autoencoder, got {tuple(net.hidden)}."
            )
        return
    if base not in models.CLASSIFIERS:
        raise unknown_name("net", base, (*config.nets, *models.CLASSIFIERS))
    model = models.make_classifier(base, dataset.num_classes)
    image = jax.ShapeDtypeStruct((1, *dataset.train.image_shape), np.float32)
    jax.eval_shape(model.init, jax.random.key(0), image)
    from_config.make_optimizer(config.target_training, 1)
    from_config.training_plan(config.target_training, dataset)


def _check_units(config: ConfigDict, dataset: Dataset) -> None:
    section, most = config.units, len(dataset.test)
    for name in ("num_directions", "num_images", "num_permutations"):
        check_at_least(f"units.{name}", section[name], 1)
    if section.num_images > most:
        raise ValueError(
            f"`units.num_images` must be at most the {most} test images, got "
            f"{section.num_images}."
        )
    for name in section.models:
        base, _ = nets.parse(name)
        if base in config.nets and not config.nets[base].hidden:
            raise ValueError(
                f"`units.models` must have hidden units, {base!r} has none; leave it "
                "out."
            )


def _check_full_batch(config: ConfigDict, dataset: Dataset) -> None:
    for section in (config.full_batch, config.autoencoder):
        for name in ("max_iterations", "iterations_per_call", "calls_per_checkpoint"):
            check_at_least(name, section[name], 1)
        for name in ("gradient_tolerance", "value_tolerance"):
            check_at_least(name, section[name], 0)
    wanted, most = config.autoencoder.num_images, len(dataset.train)
    if wanted is not None and not 1 <= wanted <= most:
        raise ValueError(
            f"`autoencoder.num_images` must be from 1 to the {most} training images, "
            f"got {wanted}; leave it out for all."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Runs the configured study, or all of them.

    Args:
      run: the run.

    Returns:
      Rows of `results.json`: nets under attack from `distortion`, and one without an
      attack for each other net that a study has used.
    """
    chosen = STUDIES if run.config.study == ALL else {run.config.study: None}
    rows = [row for name in chosen for row in STUDIES[name](run)]
    attacked = {row["target_model"] for row in rows if row["attack"]}
    clean = {
        row["target_model"]: row
        for row in rows
        if not row["attack"] and row["target_model"] not in attacked
    }
    return [row for row in rows if row["attack"]] + list(clean.values())
