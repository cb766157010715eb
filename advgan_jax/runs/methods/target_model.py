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
from advgan_jax.runs.run import Run, run_fields
from advgan_jax.runs.training import train_with_checkpoints
from advgan_jax.training import classifier
from advgan_jax.training.precision import mixed_logits_fn, mixed_module
from advgan_jax.types import LogitsFn


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`; every method that attacks a target model calls this, too."""
    parallel.choose_mode(config.parallel)
    check_at_least("max_resident_bytes", config.max_resident_bytes, 0)
    model = models.make_classifier(config.target_model, dataset.num_classes)
    shape = (1, *dataset.train.image_shape)
    images = jax.ShapeDtypeStruct(shape, np.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)
    target_models.check_defence(config)
    section = target_models.training_section(config)
    from_config.compute_dtype(section)
    from_config.make_optimizer(section, 1)
    check_at_least("evaluation.batch_size", config.evaluation.batch_size, 1)
    from_config.training_plan(section, _training_set(config, dataset))
    for source in target_models.source_configs(config):
        check(source, dataset)


def run(run: Run) -> list[dict[str, Any]]:
    """Train a target model; return one row without an attack."""
    evaluation = evaluate_clean(
        trained_logits_fn(run),
        run.dataset.test.images,
        run.dataset.test.labels,
        batch_size=run.config.evaluation.batch_size,
        progress=True,
    )
    return [make_clean_row(evaluation, **run_fields(run))]


def trained_logits_fn(run: Run) -> LogitsFn:
    """Return the target model; train it unless it is stored in `target_model_dir`."""
    config, dataset = run.config, _training_set(run.config, run.dataset)
    description = target_models.describe(config)
    model = models.make_classifier(
        config.target_model,
        dataset.num_classes,
        axis_name=parallel.axis_name(config.parallel),
    )
    section = target_models.training_section(config)
    plan = from_config.training_plan(section, dataset)
    optimizer = from_config.make_optimizer(section, plan.num_steps)
    name = f"{config.dataset}-{config.target_model}"
    state = train_with_checkpoints(
        run._replace(dataset=dataset),
        run.target_models.folder(name, description),
        section,
        classifier.init_state(
            model, optimizer, jax.random.key(config.seed), dataset.train.image_shape
        ),
        target_models.make_step(
            config,
            mixed_module(from_config.compute_dtype(section), model),
            optimizer,
            plan.steps_per_epoch,
        ),
        description=description,
        frozen=_sources(run),
        title=f"target model {config.target_model}",
    )
    return models.make_logits_fn(model, state.variables)


def _sources(run: Run) -> tuple[tuple[LogitsFn, ...], ...]:
    """Return the frozen arguments of a step: the models of an ensemble, or none."""
    sources = tuple(
        mixed_logits_fn(
            from_config.compute_dtype(config.target_training),
            trained_logits_fn(run._replace(config=config)),
        )
        for config in target_models.source_configs(run.config)
    )
    return (sources,) if sources else ()


def _training_set(config: ConfigDict, dataset: Dataset) -> Dataset:
    """Return the data set with the first `num_images` training images, or all."""
    if config.target_training.num_images is None:
        return dataset
    train = dataset.train.take(config.target_training.num_images)
    return dataclasses.replace(dataset, train=train)
