"""AI-GAN: one generator for all wanted classes, trained in two stages."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.attacks import trace_attack
from advgan_jax.data import Dataset
from advgan_jax.evaluation import (
    Evaluation,
    evaluate_per_class,
    pool,
    success_by_pair,
    summarize_classes,
)
from advgan_jax.generators import TrainedGenerator, load_generator
from advgan_jax.reporting import heatmap, target_grids, write_json
from advgan_jax.reporting.formats import EVALUATIONS
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run, test_images
from advgan_jax.trainers import train_aigan
from advgan_jax.trainers.aigan import STAGE_ONE
from advgan_jax.training import aigan
from advgan_jax.types import Attack, LogitsFn

_ATTACKS = {"stage_one": "aigan-stage-one", "stage_two": "aigan"}  # by stage
_MOST_COLUMNS = 10  # classes in the picture of perturbations


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check_attacked(config, dataset)
    num_classes, shape = dataset.num_classes, dataset.train.image_shape
    gans.aigan_objective(config, num_classes)
    trace_attack(gans.aigan_attacker(config), shape, num_classes, targeted=True)
    for stage in _ATTACKS:
        from_config.training_plan(config.training, dataset, config[stage].num_epochs)
    networks = gans.make_networks(config, num_classes, 1)
    jax.eval_shape(lambda: aigan.init_state(networks, jax.random.key(0), shape))


def run(run: Run) -> list[dict[str, Any]]:
    """Return for each stage a row of all classes, and for stage two one of each."""
    logits_fn = target_model.trained_logits_fn(run)
    generators = trained_generators(run, logits_fn)
    description = gans.describe(run.config, run.dataset)
    classes, measured = range(run.dataset.num_classes), {}
    for stage, attack in generators.items():
        made_by = {"generator": description, "stage": stage}
        measured[stage] = evaluate_classes(run, logits_fn, attack, classes, made_by)
    _report(run, measured)
    return [
        row
        for stage, by_class in measured.items()
        for row in class_rows(run, _ATTACKS[stage], by_class)
        if stage == "stage_two" or row["target_class"] is None
    ]


def trained_generators(run: Run, logits_fn: LogitsFn) -> dict[str, TrainedGenerator]:
    """Train or resume; return a generator by stage, no `stage_one` without epochs."""
    config, dataset = run.config, run.dataset
    epochs = (config.stage_one.num_epochs, config.stage_two.num_epochs)
    plan = from_config.training_plan(config.training, dataset, sum(epochs))
    networks = gans.make_networks(config, dataset.num_classes, plan.num_steps)
    description = gans.describe(config, dataset)
    options = run.options(config.training, run.workdir, description)
    generator = train_aigan(
        logits_fn,
        dataset.train,
        num_epochs=epochs,
        batch_size=plan.batch_size,
        attacker=gans.aigan_attacker(config),
        class_weight=config.loss.class_weight,
        **gans.arguments(config, networks, options),
    )
    if not epochs[0]:
        return {"stage_two": generator}
    return {
        "stage_one": load_generator(run.workdir / STAGE_ONE),
        "stage_two": generator,
    }


def evaluate_classes(
    run: Run,
    logits_fn: LogitsFn,
    attack: Attack,
    classes: Sequence[int],
    made_by: Mapping[str, Any],
) -> dict[int, Evaluation]:
    """Evaluate a generator towards some classes, or load the stored evaluations.

    `made_by` has the description of the `generator` and whatever else affects its
    weights.
    """
    config, test = run.config, test_images(run)
    depends_on = {
        "target_model": target_models.describe(config),
        "classes": list(classes),
        **made_by,
        **from_config.select(config, "evaluation"),
    }
    shown, options = (test.images, test.labels, classes), run.evaluation_options
    return run.store.get(
        f"evaluations/{made_by['generator']['kind']}",
        depends_on,
        lambda: evaluate_per_class(logits_fn, attack, *shown, **options),
        EVALUATIONS,
    )


def class_rows(
    run: Run, attack: str, by_class: Mapping[int, Evaluation]
) -> list[dict[str, Any]]:
    """Return a row for each class and, if there are several, one of all classes."""
    evaluations = list(by_class.values())
    if len(evaluations) > 1:
        evaluations.append(pool(evaluations))
    return [run.generator_row(evaluation, attack) for evaluation in evaluations]


def _report(run: Run, measured: Mapping[str, Mapping[int, Evaluation]]) -> None:
    """Write `pairs.json`, and figures of pairs and perturbations."""
    summary, panels, few = {}, {}, slice(run.config.evaluation.grid_images)
    names = [str(number) for number in range(run.dataset.num_classes)]
    labels: Any = {"row_label": "true class", "column_label": "target class"}
    for stage, by_class in measured.items():
        pairs = success_by_pair(pool(list(by_class.values())), len(names))
        summary[stage] = summarize_classes(by_class) | pairs._asdict()
        title, mean = stage.replace("_", " "), summary[stage]["success_mean"]
        text = f"AI-GAN, {title}: {mean:.2%} on average"
        figure = heatmap(pairs.rates, names, names, text, **labels)
        run.save_figure(f"pairs-{stage}", figure)
        first = list(by_class.values())[:_MOST_COLUMNS]
        panels[title] = np.stack([np.asarray(e.examples)[few] for e in first], axis=1)
    write_json(run.workdir / "pairs.json", summary)
    clean = run.dataset.test.images[: len(next(iter(panels.values())))]
    run.save_figure("perturbations", target_grids(clean, panels, names))
