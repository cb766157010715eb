"""Make one evaluation of another or of several."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.evaluation.result import Evaluation

_DISTANCES = ("linf", "l2")


def within(evaluation: Evaluation, epsilon: float, norm: str) -> Evaluation:
    """Return an evaluation in which perturbations beyond `epsilon` are undone.

    One run of an attack that minimises the perturbation thus gives the whole robustness
    curve.

    Args:
      evaluation: of an attack without a bound.
      epsilon: the largest allowed distance, in pixel units; `checks.largest_distance`
        adds the rounding of float32.
      norm: `linf` or `l2`, the one that the attack minimises.

    Raises:
      ValueError: for an unknown norm or a negative epsilon.
    """
    if norm not in _DISTANCES:
        raise unknown_name("distance", norm, _DISTANCES)
    check_at_least("epsilon", epsilon, 0)
    near = getattr(evaluation, norm) <= evaluation.largest_distance(epsilon, norm)
    rounded = evaluation.rounded and within(evaluation.rounded, epsilon, norm)
    return dataclasses.replace(keep_where(evaluation, near), rounded=rounded)


def keep_where(evaluation: Evaluation, kept: np.ndarray) -> Evaluation:
    """Return an evaluation whose perturbations are undone where `kept` `[N]` is False.

    It has no examples, margins or rounded images.
    """
    changes: dict[str, Any] = {
        name: np.where(kept, getattr(evaluation, name), 0)
        for name in ("linf", "l2", "rms")
    }
    changes["adversarial_predictions"] = np.where(
        kept, evaluation.adversarial_predictions, evaluation.clean_predictions
    )
    unknown = dict.fromkeys(("examples", "margin", "rounded"))  # of the undone images
    return dataclasses.replace(evaluation, **changes, **unknown)


def worst_case_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Combine evaluations of several attacks to the worst case on each image.

    `attacks.worst_case` combines the attacks themselves.

    Args:
      evaluations: of one model on the same images, in order of preference.

    Returns:
      For each image the measurements of the first attack that succeeds; otherwise of
      the first whose image is misclassified, else of the first. `seconds` is the sum.

    Raises:
      ValueError: if there are none, or their images or models differ.
    """
    if not evaluations:
        raise ValueError("`evaluations` must contain at least one, got none.")
    first = evaluations[0]
    for other in evaluations[1:]:
        for name in ("labels", "target_labels", "clean_predictions"):
            if not np.array_equal(getattr(first, name), getattr(other, name)):
                raise ValueError(
                    "`evaluations` must have the same images and the same model, got "
                    f"different `{name}`; use the same split for all attacks."
                )
    # argmax returns the first of equal values. A wrong class that is not the wanted one
    # is worse for the model than the true class.
    harm = [
        2 * e.succeeded + (e.adversarial_predictions != e.labels) for e in evaluations
    ]
    winner = np.argmax(harm, axis=0)
    columns = np.arange(first.num_images)
    picked: dict[str, Any] = {
        name: np.stack([getattr(e, name) for e in evaluations])[winner, columns]
        for name in ("adversarial_predictions", "linf", "l2", "rms")
    }
    for name in ("gradient_zero", "gradient_not_finite", "margin"):
        known = _all_known(evaluations, name)
        picked[name] = np.stack(known)[winner, columns] if known else None
    rounded = _all_known(evaluations, "rounded")
    return dataclasses.replace(
        first,
        **picked,
        seconds=_total_seconds(evaluations),
        examples=None,
        rounded=worst_case_evaluation(rounded) if rounded else None,
    )


def _all_known(evaluations: Sequence[Evaluation], name: str) -> list[Any] | None:
    """Return a field of several evaluations; None if it is missing in one of them."""
    values = [getattr(evaluation, name) for evaluation in evaluations]
    return None if any(value is None for value in values) else values


def _total_seconds(evaluations: Sequence[Evaluation]) -> float | None:
    """Return the time of several attacks; None if one is unknown."""
    known = _all_known(evaluations, "seconds")
    return sum(known) if known else None


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Join evaluations, all targeted or all untargeted, into one of all their images.

    Each counted image has the same weight in the rates. `seconds` is the sum. A field
    that is missing in one of them is None. The result has no examples.

    Raises:
      ValueError: if there are none, or both kinds.
    """
    if not evaluations:
        raise ValueError("`evaluations` must contain at least one, got none.")
    if len({evaluation.targeted for evaluation in evaluations}) > 1:
        raise ValueError(
            "`evaluations` must be all targeted or all untargeted, got both; pool each "
            "kind by itself."
        )
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(Evaluation):
        if field.name not in ("seconds", "examples", "bounds", "rounded"):
            known = _all_known(evaluations, field.name)
            columns[field.name] = np.concatenate(known) if known else None
    rounded = _all_known(evaluations, "rounded")
    return Evaluation(
        **columns,
        seconds=_total_seconds(evaluations),
        bounds=evaluations[0].bounds,
        rounded=pool(rounded) if rounded else None,
    )


def mean_distortion(evaluation: Evaluation) -> float:
    """Return the mean RMS distortion of images that only the attack changes, or NaN."""
    before = evaluation.clean_predictions == evaluation.labels
    after = evaluation.adversarial_predictions != evaluation.labels
    distances = evaluation.rms[before & after]
    return float(np.mean(distances)) if distances.size else float("nan")
