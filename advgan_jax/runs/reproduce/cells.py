"""Cells measured: a number for the table, and the line of `results.json` behind it."""

import dataclasses
from typing import Any

import jax
import numpy as np

from advgan_jax.evaluation import (
    Evaluation,
    check_submission,
    evaluate,
    evaluate_adversarial,
    evaluate_clean,
    make_clean_row,
    takes_epsilon,
)
from advgan_jax.runs.reproduce.identity import GENERATORS
from advgan_jax.runs.reproduce.rows import Cell
from advgan_jax.runs.reproduce.workshop import Workshop
from advgan_jax.runs.run import attack_row

# Others are called by their sections: two may be the same attack with other numbers.
_NAMES = {"dynamic": "advgan", "static": "advgan", "fitted": "advgan-fitted"}

Found = tuple[float, list[dict[str, Any]]]


def measure(workshop: Workshop, cell: Cell) -> Found:
    """Trains what a cell needs, and measures it.

    Args:
      workshop: of the run.
      cell: what is asked.

    Returns:
      The number, and rows of `results.json`.

    Raises:
      ValueError: if the images of a checked cell break the challenge's rules.
    """
    if cell.metric in ("success_mean", "success_best"):
        return _compared(workshop, cell)
    if cell.attack is None:
        return _clean(workshop, cell)
    if cell.metric == "seconds":
        return _seconds(workshop, cell)
    return _attacked(workshop, cell)


def _compared(workshop: Workshop, cell: Cell) -> Found:
    """One method towards each class, of the comparison of both."""
    rows = [
        row | {"experiment": workshop.run.config.method}
        for row in workshop.compared(cell.on)
        if row["attack"] == cell.attack
    ]
    # The row of all classes together names none; a class may have no image to count.
    rates = [
        row["attack_success_rate"] for row in rows if row["target_class"] is not None
    ]
    rates = [rate for rate in rates if rate is not None]
    combine = np.mean if cell.metric == "success_mean" else np.max
    return float(combine(rates)), rows


def _clean(workshop: Workshop, cell: Cell) -> Found:
    test = workshop.images(whole=True)
    config = workshop.run.config
    evaluation = evaluate_clean(
        workshop.logits_fn(cell.on),
        test.images,
        test.labels,
        batch_size=config.evaluation.batch_size,
    )
    row = make_clean_row(
        evaluation,
        experiment=config.method,
        dataset=config.dataset,
        target_model=cell.on.title,
        seed=config.seed,
    )
    return evaluation.clean_accuracy, [row]


def _attacked(workshop: Workshop, cell: Cell) -> Found:
    config, test = workshop.run.config, workshop.images(whole=cell.checked)
    adversarial = workshop.adversarial(cell.attack, cell.through, whole=cell.checked)
    if cell.checked:
        check_submission(adversarial, test.images, epsilon=config.epsilon)
    evaluation = evaluate_adversarial(
        workshop.logits_fn(cell.on),
        test.images,
        adversarial,
        test.labels,
        batch_size=config.evaluation.batch_size,
    )
    value = evaluation.robust_accuracy
    if cell.metric == "success":
        value = evaluation.success().rate
    return value, [_row(workshop, cell, evaluation, config.epsilon)]


def _seconds(workshop: Workshop, cell: Cell) -> Found:
    """The attack's time on as many images as the table is about, compiled before.

    What is made on other nets is then shown to the one that is attacked, untimed.
    """
    config = workshop.run.config
    test = workshop.images(whole=True)
    test = test.take(min(config.num_timed, len(test)))
    wanted = None
    if cell.attack == "aigan":  # has no untargeted form
        wanted = (test.labels + 1) % workshop.run.dataset.num_classes
    shared = {"target_labels": wanted, "batch_size": config.evaluation.batch_size}
    attack = workshop.attack(cell.attack, cell.through)
    evaluation = timed = evaluate(
        workshop.surrogate(cell.through),
        attack,
        test.images,
        test.labels,
        key=jax.random.key(config.seed + 2),
        keep=len(test),
        progress=True,
        **shared,
    )
    if cell.through != (cell.on,):
        shown = (test.images, timed.examples, test.labels)
        evaluation = evaluate_adversarial(workshop.logits_fn(cell.on), *shown, **shared)
        evaluation = dataclasses.replace(evaluation, seconds=timed.seconds)
    seconds = 1000 * timed.seconds / timed.num_images
    # Nothing is projected here: those that look for the least distance have no bound.
    epsilon = config.epsilon if takes_epsilon(attack) else None
    return seconds, [_row(workshop, cell, evaluation, epsilon)]


def _row(
    workshop: Workshop, cell: Cell, evaluation: Evaluation, epsilon: float | None
) -> dict[str, Any]:
    config = workshop.run.config.copy_and_resolve_references()
    config.target_model = cell.on.title
    return attack_row(
        workshop.run._replace(config=config),
        evaluation,
        attack=_NAMES.get(cell.attack, cell.attack),
        threat_model=_threat_model(cell),
        epsilon=epsilon,
        norm=None if epsilon is None else "linf",
        queries=workshop.queries(cell.attack, cell.through),
    )


def _threat_model(cell: Cell) -> str:
    if cell.through != (cell.on,):
        return "transfer"  # also of a generator that another net answered
    if GENERATORS.get(cell.attack) == "blackbox":
        return f"black-box-{cell.attack}"
    # A fitted generator needs the model for each new image.
    needs_model = cell.attack not in GENERATORS or cell.attack == "fitted"
    return "white-box" if needs_model else "semi-white-box"
