"""AdvGAN from target model to results."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.reporting import (
    attack_grid,
    read_metrics,
    save_figure,
    training_curves,
)
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run, attack_row, test_images
from advgan_jax.runs.training import fit
from advgan_jax.training import advgan
from advgan_jax.types import Attack, LogitsFn


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    target_model.check(config, dataset)
    from_config.advgan_objective(config, dataset.num_classes)
    from_config.training_plan(config.training, dataset)
    from_config.compute_dtype(config.training)
    if config.distillation is not None:
        raise unknown_name("distillation", config.distillation, ["none (leave it out)"])
    check_evaluation(config, dataset)
    networks = from_config.advgan_networks(config, num_steps=1)
    shape = dataset.train.image_shape
    jax.eval_shape(lambda: advgan.init_state(networks, jax.random.key(0), shape))


def check_evaluation(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a section `evaluation` that the test images do not allow."""
    section, most = config.evaluation, len(dataset.test)
    if section.num_images is not None and not 1 <= section.num_images <= most:
        raise ValueError(
            f"`num_images` must be from 1 to the {most} test images, got "
            f"{section.num_images}; leave it out for all."
        )
    check_at_least("grid_images", section.grid_images, 1)


def run(run: Run) -> list[dict[str, Any]]:
    """AdvGAN, semi-white-box: the generator is trained with the target model's help."""
    logits_fn = target_model.trained_logits_fn(run)
    attack = trained_generator(run, logits_fn)
    evaluation = evaluate_generator(run, logits_fn, attack)
    draw(run, evaluation)
    return [
        attack_row(
            run,
            evaluation,
            attack="advgan",
            threat_model="semi-white-box",
            epsilon=run.config.epsilon,
            norm="linf",
        )
    ]


def trained_generator(run: Run, logits_fn: LogitsFn) -> Attack:
    """The run's generator, trained unless its checkpoints say that it is already.

    Args:
      run: the run that needs it.
      logits_fn: the target model.

    Returns:
      The generator as an attack.
    """
    config, dataset = run.config, run.dataset
    plan = from_config.training_plan(config.training, dataset)
    networks = from_config.advgan_networks(config, plan.num_steps)
    objective = from_config.advgan_objective(config, dataset.num_classes)
    shape, dtype = dataset.train.image_shape, from_config.compute_dtype(config.training)
    state = fit(
        run,
        run.workdir,
        config.training,
        advgan.init_state(networks, jax.random.key(config.seed), shape),
        advgan.make_train_step(from_config.mixed_networks(dtype, networks), objective),
        description={
            "config": from_config.plain(config),
            "image_shape": list(shape),
            "num_classes": dataset.num_classes,
        },
        frozen=(from_config.mixed_logits_fn(dtype, logits_fn),),
        title="AdvGAN",
    )
    return advgan.bind_generator(
        networks, state, epsilon=config.epsilon, target_class=config.target_class
    )


def evaluate_generator(run: Run, logits_fn: LogitsFn, attack: Attack) -> Evaluation:
    """The trained generator on the test split (or its first `num_images`)."""
    config, test = run.config, test_images(run)
    wanted = config.target_class
    return evaluate(
        logits_fn,
        attack,
        test.images,
        test.labels,
        target_labels=None if wanted is None else np.full_like(test.labels, wanted),
        batch_size=config.evaluation.batch_size,
        keep=config.evaluation.grid_images,
        progress=True,
    )


def draw(run: Run, evaluation: Evaluation) -> None:
    """Leaves the pictures a person would want in `figures/`."""
    test, shown = run.dataset.test, len(evaluation.examples)
    grid = attack_grid(
        test.images[:shown],
        evaluation.examples,
        test.labels[:shown],
        evaluation.clean_predictions[:shown],
        evaluation.adversarial_predictions[:shown],
    )
    save_figure(grid, run.workdir / "figures" / "adversarial.png")
    metrics = read_metrics(run.workdir)
    if metrics:  # none, if no step was asked for
        save_figure(training_curves(metrics), run.workdir / "figures" / "curves.png")
