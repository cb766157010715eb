"""Target models: trained once, and found again by all that decides what they are."""

import dataclasses
import pathlib
import re
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.checks import check_at_least
from advgan_jax.data import Dataset
from advgan_jax.evaluation import evaluate_clean, make_clean_row
from advgan_jax.runs import from_config
from advgan_jax.runs.run import Run
from advgan_jax.runs.training import fit
from advgan_jax.training import classifier
from advgan_jax.types import LogitsFn


def trained_logits_fn(run: Run) -> LogitsFn:
    """The target model, trained unless the target folder has it already.

    Args:
      run: the run that needs it.

    Returns:
      The model in inference mode.
    """
    config = run.config
    dataset = _own_images(run.dataset, config)
    description = from_config.target_model_description(config)
    slug = re.sub(r"[^\w.-]+", "_", f"{config.dataset}-{config.target_model}")
    folder = f"{slug}-{from_config.fingerprint(description)}"
    directory = (
        pathlib.Path(config.target_model_dir or run.workdir / "target_models") / folder
    )
    axis = parallel.axis_name(config.parallel)
    model = models.make_classifier(
        config.target_model, dataset.num_classes, axis_name=axis
    )
    section = from_config.target_model_training(config)
    plan = from_config.training_plan(section, dataset)
    optimizer = from_config.make_optimizer(section, plan.num_steps)
    mixed = from_config.mixed_module(from_config.compute_dtype(section), model)
    step = from_config.make_target_model_step(
        config, mixed, optimizer, plan.steps_per_epoch
    )
    state = classifier.init_state(
        model,
        optimizer,
        jax.random.key(config.seed),
        dataset.train.image_shape,
    )
    state = fit(
        run._replace(dataset=dataset),
        directory.absolute(),
        section,
        state,
        step,
        description=description,
        frozen=_sources(run),
        title=f"target {config.target_model}",
    )
    return models.make_logits_fn(model, state.variables)


def _sources(run: Run) -> tuple[tuple[LogitsFn, ...], ...]:
    """What a step needs beside the state: an ensemble's static nets, or nothing."""
    configs = from_config.source_configs(run.config)
    sources = tuple(
        from_config.mixed_logits_fn(
            from_config.compute_dtype(each.target_training),
            trained_logits_fn(run._replace(config=each)),
        )
        for each in configs
    )
    return (sources,) if sources else ()


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    parallel.choose_mode(config.parallel)
    check_at_least("max_resident_bytes", config.max_resident_bytes, 0)
    model = models.make_classifier(config.target_model, dataset.num_classes)
    shape = (1, *dataset.train.image_shape)
    images = jax.ShapeDtypeStruct(shape, np.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)
    from_config.check_defence(config)
    section = from_config.target_model_training(config)
    from_config.compute_dtype(section)
    from_config.make_optimizer(section, 1)
    check_at_least("evaluation.batch_size", config.evaluation.batch_size, 1)
    from_config.training_plan(section, _own_images(dataset, config))
    for source in from_config.source_configs(config):
        check(source, dataset)


def _own_images(dataset: Dataset, config: ConfigDict) -> Dataset:
    """The data set with as much of its training split as the target model gets."""
    if config.target_training.num_images is None:
        return dataset
    train = dataset.train.take(config.target_training.num_images)
    return dataclasses.replace(dataset, train=train)


def run(run: Run) -> list[dict[str, Any]]:
    """A target model alone; its row has no attack."""
    logits_fn = trained_logits_fn(run)
    test = run.dataset.test
    evaluation = evaluate_clean(
        logits_fn,
        test.images,
        test.labels,
        batch_size=run.config.evaluation.batch_size,
        progress=True,
    )
    row = make_clean_row(
        evaluation,
        experiment="target_model",
        dataset=run.config.dataset,
        target_model=from_config.target_model_title(run.config),
        seed=run.config.seed,
    )
    return [row]
