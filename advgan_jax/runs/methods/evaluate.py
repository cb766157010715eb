"""Evaluate a trained generator, of a run or saved, on any data set and target model."""

from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from advgan_jax.data import Dataset
from advgan_jax.evaluation import evaluate, evaluate_per_class, pool
from advgan_jax.generators import (
    TrainedGenerator,
    find_threat_model,
    load_generator,
)
from advgan_jax.runs.from_config import target_models
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row, test_images


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check_attacked(config, dataset)
    generator, shape = _load(config), dataset.train.image_shape
    aims = generator.conditional or generator.target_class is not None
    differ = aims and generator.num_classes != dataset.num_classes
    if generator.image_shape != shape or differ:
        raise ValueError(
            f"{config.generator_dir} was trained for images {generator.image_shape} of "
            f"{generator.num_classes} classes, got the data set {config.dataset!r} "
            f"with images {shape} of {dataset.num_classes} classes."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Return one row; of a conditional generator one for each class and one of all."""
    config, test, options = run.config, test_images(run), run.evaluation_options
    generator, logits_fn = _load(config), target_model.trained_logits_fn(run)
    low, high = generator.bounds
    epsilon = generator.epsilon / (high - low)  # the images are in [0, 1]
    # Bound, so that rounding stays within it.
    attack, shown = partial(generator, epsilon=epsilon), (test.images, test.labels)
    if generator.conditional:
        classes = range(run.dataset.num_classes)
        by_class = evaluate_per_class(logits_fn, attack, *shown, classes, **options)
        found = [*by_class.values(), pool(list(by_class.values()))]
    else:
        wanted = generator.target_class
        labels = None if wanted is None else np.full_like(test.labels, wanted)
        found = [evaluate(logits_fn, attack, *shown, target_labels=labels, **options)]
        advgan.draw(run, found[0])
    name = "aigan" if generator.conditional else "advgan"
    described = target_models.describe(config)
    model = find_threat_model(config.generator_dir, described)
    fields: dict[str, Any] = {"attack": name, "norm": "linf", "epsilon": epsilon}
    fields["threat_model"] = model or "transfer"  # None is no name of one
    rows = [attack_row(run, evaluation, **fields) for evaluation in found]
    return [{**row, "threat_model": model} for row in rows]


def _load(config: ConfigDict) -> TrainedGenerator:
    if config.generator_dir is None:
        raise ValueError(
            "`generator_dir` must be the workdir of a run or the folder of a saved "
            "generator, got none; `advgan-jax evaluate FOLDER` sets it."
        )
    return load_generator(config.generator_dir)
