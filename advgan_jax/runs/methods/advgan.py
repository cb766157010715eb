"""AdvGAN, semi-white-box: the generator trains with the target model's gradients."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.generators import bind_generator
from advgan_jax.reporting import (
    attack_grid,
    read_metrics,
    save_figure,
    training_curves,
)
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import (
    Run,
    check_evaluation,
    generator_row,
    test_images,
    wanted_labels,
)
from advgan_jax.runs.training import train_with_checkpoints
from advgan_jax.training import advgan
from advgan_jax.training.precision import mixed_logits_fn, mixed_networks
from advgan_jax.types import Attack, LogitsFn


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check(config, dataset)
    gans.advgan_objective(config, dataset.num_classes)
    from_config.training_plan(config.training, dataset)
    from_config.compute_dtype(config.training)
    if config.distillation is not None:
        raise unknown_name("distillation", config.distillation, ["none (omit it)"])
    check_evaluation(config, dataset)
    networks = gans.advgan_networks(config, num_steps=1)
    shape = dataset.train.image_shape
    jax.eval_shape(lambda: advgan.init_state(networks, jax.random.key(0), shape))


def run(run: Run) -> list[dict[str, Any]]:
    """Train a generator and evaluate it; return one row."""
    logits_fn = target_model.trained_logits_fn(run)
    evaluation = evaluate_generator(run, logits_fn, trained_generator(run, logits_fn))
    draw(run, evaluation)
    return [generator_row(run, evaluation, "advgan")]


def trained_generator(run: Run, logits_fn: LogitsFn) -> Attack:
    """Train the generator of the run's workdir, or resume its training; return it."""
    config, dataset = run.config, run.dataset
    num_steps = from_config.training_plan(config.training, dataset).num_steps
    networks = gans.advgan_networks(config, num_steps)
    objective = gans.advgan_objective(config, dataset.num_classes)
    description = gans.describe(config, dataset)
    shape, dtype = dataset.train.image_shape, from_config.compute_dtype(config.training)
    state = train_with_checkpoints(
        run,
        run.workdir,
        config.training,
        advgan.init_state(networks, jax.random.key(config.seed), shape),
        advgan.make_train_step(mixed_networks(dtype, networks), objective),
        description=description,
        frozen=(mixed_logits_fn(dtype, logits_fn),),
        title="AdvGAN",
    )
    return bind_generator(description, state.generator.params)


def evaluate_generator(run: Run, logits_fn: LogitsFn, attack: Attack) -> Evaluation:
    """Evaluate a trained generator on test images, towards `target_class` if set."""
    config, test = run.config, test_images(run)
    return evaluate(
        logits_fn,
        attack,
        test.images,
        test.labels,
        target_labels=wanted_labels(config, test.labels),
        batch_size=config.evaluation.batch_size,
        keep=config.evaluation.grid_images,
        progress=True,
    )


def draw(run: Run, evaluation: Evaluation) -> None:
    """Save adversarial images and training curves as figures."""
    examples = np.asarray(evaluation.examples)
    test, shown = run.dataset.test, slice(len(examples))
    grid = attack_grid(
        test.images[shown],
        examples,
        test.labels[shown],
        evaluation.clean_predictions[shown],
        evaluation.adversarial_predictions[shown],
    )
    save_figure(grid, run.workdir / "figures" / "adversarial.png")
    metrics = read_metrics(run.workdir)
    if metrics:  # none after a training without steps
        save_figure(training_curves(metrics), run.workdir / "figures" / "curves.png")
