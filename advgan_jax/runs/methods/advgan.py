"""AdvGAN, semi-white-box: the generator trains with the target model's gradients."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.generators import TrainedGenerator
from advgan_jax.reporting import attack_grid
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run, test_images
from advgan_jax.trainers import train_advgan
from advgan_jax.training import advgan
from advgan_jax.types import Attack, LogitsFn


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check_attacked(config, dataset)
    gans.advgan_objective(config, dataset.num_classes)
    from_config.training_plan(config.training, dataset)
    if config.distillation is not None:
        raise unknown_name("distillation", config.distillation, ["none (omit it)"])
    networks = gans.make_networks(config, dataset.num_classes, 1)
    shape = dataset.train.image_shape
    jax.eval_shape(lambda: advgan.init_state(networks, jax.random.key(0), shape))


def run(run: Run) -> list[dict[str, Any]]:
    """Train a generator and evaluate it; return one row."""
    logits_fn = target_model.trained_logits_fn(run)
    evaluation = evaluate_generator(run, logits_fn, trained_generator(run, logits_fn))
    draw(run, evaluation)
    return [run.generator_row(evaluation, "advgan")]


def trained_generator(run: Run, logits_fn: LogitsFn) -> TrainedGenerator:
    """Train the generator of the run's workdir, or resume its training; return it."""
    config, dataset = run.config, run.dataset
    plan = from_config.training_plan(config.training, dataset)
    networks = gans.make_networks(config, dataset.num_classes, plan.num_steps)
    description = gans.describe(config, dataset)
    options = run.options(config.training, run.workdir, description)
    return train_advgan(
        logits_fn,
        dataset.train,
        target_class=config.target_class,
        num_epochs=plan.num_epochs,
        batch_size=plan.batch_size,
        **gans.arguments(config, networks, options),
    )


def evaluate_generator(run: Run, logits_fn: LogitsFn, attack: Attack) -> Evaluation:
    """Evaluate a trained generator on test images, towards `target_class` if set."""
    test, options = test_images(run), run.evaluation_options
    shown, wanted = (test.images, test.labels), run.wanted_labels(test.labels)
    return evaluate(logits_fn, attack, *shown, target_labels=wanted, **options)


def draw(run: Run, evaluation: Evaluation) -> None:
    """Save adversarial images as a figure."""
    examples = np.asarray(evaluation.examples)[: run.config.evaluation.grid_images]
    predictions = (evaluation.clean_predictions, evaluation.adversarial_predictions)
    classes = (ids[: len(examples)] for ids in (evaluation.labels, *predictions))
    clean = run.dataset.test.images[: len(examples)]
    run.save_figure("adversarial", attack_grid(clean, examples, *classes))
