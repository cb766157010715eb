"""AdvGAN, semi-white-box: the generator trains with the target model's gradients."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.generators import bind_generator
from advgan_jax.reporting import attack_grid, read_metrics, training_curves
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run, test_images
from advgan_jax.runs.training import train_with_checkpoints
from advgan_jax.training import advgan
from advgan_jax.training.precision import mixed_logits_fn, mixed_networks
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


def trained_generator(run: Run, logits_fn: LogitsFn) -> Attack:
    """Train the generator of the run's workdir, or resume its training; return it."""
    config, dataset = run.config, run.dataset
    num_steps = from_config.training_plan(config.training, dataset).num_steps
    networks = gans.make_networks(config, dataset.num_classes, num_steps)
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
    test, options = test_images(run), run.evaluation_options
    shown, wanted = (test.images, test.labels), run.wanted_labels(test.labels)
    return evaluate(logits_fn, attack, *shown, target_labels=wanted, **options)


def draw(run: Run, evaluation: Evaluation) -> None:
    """Save adversarial images and training curves as figures."""
    examples = np.asarray(evaluation.examples)
    predictions = (evaluation.clean_predictions, evaluation.adversarial_predictions)
    classes = (ids[: len(examples)] for ids in (evaluation.labels, *predictions))
    clean = run.dataset.test.images[: len(examples)]
    run.save_figure("adversarial", attack_grid(clean, examples, *classes))
    draw_training(run)


def draw_training(run: Run, switches: Sequence[int] = ()) -> None:
    """Save the curves of a training as a figure, unless it had no steps."""
    metrics = read_metrics(run.workdir)
    if metrics:
        run.save_figure("curves", training_curves(metrics, switches=switches))
