"""Target models, each trained once and stored under a fingerprint of its settings."""

import dataclasses
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.checks import check_at_least
from advgan_jax.data import Dataset
from advgan_jax.evaluation import evaluate_clean, make_clean_row
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import target_models
from advgan_jax.runs.run import Run, check_evaluation, run_fields
from advgan_jax.runs.training import train_with_checkpoints
from advgan_jax.training import classifier
from advgan_jax.training.precision import mixed_logits_fn, mixed_module
from advgan_jax.types import LogitsFn


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`; every method that attacks a target model calls this, too."""
    parallel.choose_mode(config.parallel)
    check_at_least("max_resident_bytes", config.max_resident_bytes, 0)
    model = models.make_classifier(config.target_model, dataset.num_classes)
    images = jax.ShapeDtypeStruct((1, *dataset.train.image_shape), np.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)
    target_models.check_defence(config)
    section = target_models.training_section(config)
    from_config.compute_dtype(section)
    from_config.make_optimizer(section, 1)
    check_at_least("evaluation.batch_size", config.evaluation.batch_size, 1)
    from_config.training_plan(section, _training_set(config, dataset))
    for source in target_models.source_configs(config):
        check(source, dataset)


def check_attacked(config: ConfigDict, dataset: Dataset) -> None:
    """Check a target model and what every training against it shares."""
    check(config, dataset)
    check_evaluation(config, dataset)
    from_config.compute_dtype(config.training)


def run(run: Run) -> list[dict[str, Any]]:
    """Train a target model; return one row without an attack."""
    size, test = run.config.evaluation.batch_size, run.dataset.test
    shown = (trained_logits_fn(run), test.images, test.labels)
    evaluation = evaluate_clean(*shown, batch_size=size, progress=True)
    return [make_clean_row(evaluation, **run_fields(run))]


def trained_logits_fn(run: Run) -> LogitsFn:
    """Return the target model; train it unless it is stored in `target_model_dir`."""
    config, dataset = run.config, _training_set(run.config, run.dataset)
    description, name = target_models.describe(config), config.target_model
    section = target_models.training_section(config)
    axis = parallel.axis_name(config.parallel)
    model = models.make_classifier(name, dataset.num_classes, axis_name=axis)
    plan = from_config.training_plan(section, dataset)
    optimizer = from_config.make_optimizer(section, plan.num_steps)
    key, shape = jax.random.key(config.seed), dataset.train.image_shape
    mixed = mixed_module(from_config.compute_dtype(section), model)
    # The models of an ensemble are undefended; its defence may replace their dtype.
    own_dtype = from_config.compute_dtype(config.target_training)
    sources = tuple(
        mixed_logits_fn(own_dtype, trained_logits_fn(run._replace(config=source)))
        for source in target_models.source_configs(config)
    )
    state = train_with_checkpoints(
        run._replace(dataset=dataset),
        run.target_models.folder(f"{config.dataset}-{name}", description),
        section,
        classifier.init_state(model, optimizer, key, shape),
        target_models.make_step(config, mixed, optimizer, plan.steps_per_epoch),
        description=description,
        frozen=(sources,) if sources else (),
        title=f"target model {name}",
    )
    return models.make_logits_fn(model, state.variables)


def _training_set(config: ConfigDict, dataset: Dataset) -> Dataset:
    """Return the data set with the first `num_images` training images, or all."""
    if config.target_training.num_images is None:
        return dataset
    train = dataset.train.take(config.target_training.num_images)
    return dataclasses.replace(dataset, train=train)
