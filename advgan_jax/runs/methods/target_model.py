"""Target models, each trained once and stored under a fingerprint of its settings.

The user's own are imported, see `interop.imported`.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.data import Dataset, check_trainable, to_float
from advgan_jax.evaluation import evaluate_clean, make_clean_row
from advgan_jax.interop import imported
from advgan_jax.reporting.formats import ARRAY
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import target_models
from advgan_jax.runs.run import Run, check_evaluation, run_fields, test_images
from advgan_jax.settings import UNDEFENDED
from advgan_jax.trainers import checkpointed
from advgan_jax.training import classifier
from advgan_jax.training.precision import mixed_logits_fn, mixed_module
from advgan_jax.types import LogitsFn

_NUM_PROBED = 8  # images that check an imported model
# Methods that differentiate the target model, and what they are called in errors.
_DIFFERENTIATE = {"advgan": "AdvGAN's training", "aigan": "AI-GAN's training"}


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`; every method that attacks a target model calls this, too."""
    parallel.choose_mode(config.parallel)
    if is_imported(config):
        _check_imported(config, dataset)
        return
    if config.get("target_weights") is not None:
        raise ValueError(
            "`target_weights` belong to a `target_model` that is imported, such as "
            f"`my_package.models:make`, got the model {config.target_model!r}; omit "
            "them."
        )
    training = _training_set(config, dataset)
    check_trainable(training.train, dataset.num_classes)
    try:
        model = models.make_classifier(config.target_model, dataset.num_classes)
    except ValueError as error:
        error.add_note("A model of your own is `package.module:function`.")
        raise
    images = jax.ShapeDtypeStruct((1, *dataset.train.image_shape), np.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)
    target_models.check_defence(config)
    section = target_models.training_section(config)
    shift = partial(classifier.augment, max_shift=section.max_shift, flip=section.flip)
    jax.eval_shape(shift, images, jax.random.key(0))
    from_config.training_plan(section, training)
    for source in target_models.source_configs(config):
        check(source, dataset)


def _check_imported(config: ConfigDict, dataset: Dataset) -> None:
    name = config.target_model
    if "target_weights" not in config:
        raise ValueError(
            f"This run trains its models, and cannot import {name!r}; name one of "
            f"{', '.join(models.CLASSIFIERS)}."
        )
    if config.target_training.defence != UNDEFENDED:
        raise ValueError(
            f"`target_training.defence` must be 'none', because {name} is imported and "
            f"not trained, got {config.target_training.defence!r}."
        )
    imported.identify(name, config.target_weights, again=True)
    logits_fn = imported.load(name, config.target_weights, dataset.num_classes)
    images: Any = to_float(dataset.test.images[:_NUM_PROBED])
    imported.check_model(logits_fn, name, images, dataset.num_classes)
    if config.method in _DIFFERENTIATE:
        check_gradients(config, dataset, _DIFFERENTIATE[config.method])


def is_imported(config: ConfigDict) -> bool:
    """Return whether the target model is imported, and not trained by the run."""
    return imported.is_imported(config.target_model)


def check_gradients(config: ConfigDict, dataset: Dataset, user: str) -> None:
    """Raise `ValueError` if the target model is imported and has no gradients."""
    name, weights = config.target_model, config.get("target_weights")
    if is_imported(config):
        logits_fn = imported.load(name, weights, dataset.num_classes)
        imported.check_gradients(logits_fn, name, dataset.train.image_shape, user)


def check_attacked(config: ConfigDict, dataset: Dataset) -> None:
    """Check a target model and what every training against it shares."""
    check(config, dataset)
    check_evaluation(config, dataset)


def run(run: Run) -> list[dict[str, Any]]:
    """Train a target model; return one row without an attack."""
    size, test = run.config.evaluation.batch_size, run.dataset.test
    shown = (trained_logits_fn(run), test.images, test.labels)
    evaluation = evaluate_clean(*shown, batch_size=size, progress=True)
    return [make_clean_row(evaluation, **run_fields(run))]


def trained_logits_fn(run: Run) -> LogitsFn:
    """Return the target model; train it unless it is imported or stored.

    It is stored in `target_model_dir`.
    """
    if is_imported(run.config):
        return _imported_logits_fn(run)
    config, dataset = run.config, _training_set(run.config, run.dataset)
    description, name = target_models.describe(config), config.target_model
    section = target_models.training_section(config)
    axis = parallel.axis_name(config.parallel)
    model = models.make_classifier(name, dataset.num_classes, axis_name=axis)
    plan = from_config.training_plan(section, dataset)
    optimizer = from_config.make_optimizer(section, plan.num_steps)
    key, shape = jax.random.key(config.seed), dataset.train.image_shape
    mixed = mixed_module(section.compute_dtype, model)
    # The models of an ensemble are undefended; its defence may replace their dtype.
    own_dtype = config.target_training.compute_dtype
    sources = tuple(
        mixed_logits_fn(own_dtype, trained_logits_fn(run._replace(config=source)))
        for source in target_models.source_configs(config)
    )
    kind = f"{config.dataset}-{name}".replace("/", "_")
    folder = run.target_models.folder(kind, description)
    state = checkpointed.train(
        # Other runs may share the folder.
        run.options(section, folder, description)._replace(wait=True),
        classifier.init_state(model, optimizer, key, shape),
        target_models.make_step(config, mixed, optimizer, plan.steps_per_epoch),
        dataset.train,
        plan,
        frozen=(sources,) if sources else (),
        title=f"target model {name}",
    )
    return models.make_logits_fn(model, state.variables)


def _imported_logits_fn(run: Run) -> LogitsFn:
    """Return an imported model; `ValueError` if it predicts otherwise than before."""
    config, test, name = run.config, test_images(run), run.config.target_model
    logits_fn = imported.load(name, config.target_weights, run.dataset.num_classes)
    shown, size = (test.images, test.labels), config.evaluation.batch_size
    found = evaluate_clean(logits_fn, *shown, batch_size=size).clean_predictions
    depends_on = [target_models.describe(config), len(test)]
    before = run.store.get("evaluations/target_model", depends_on, lambda: found, ARRAY)
    imported.check_predictions(name, found, before, test.labels)
    return logits_fn


def _training_set(config: ConfigDict, dataset: Dataset) -> Dataset:
    """Return the data set with the first `num_images` training images, or all."""
    if config.target_training.num_images is None:
        return dataset
    train = dataset.train.take(config.target_training.num_images)
    return dataclasses.replace(dataset, train=train)
