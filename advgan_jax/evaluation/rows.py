"""The rows of `results.json`: all experiments write the same fields."""

import math
from typing import Any

import numpy as np

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.evaluation.result import MARKS, Evaluation

THREAT_MODELS = (
    "semi-white-box",
    "black-box",
    "black-box-static",
    "black-box-dynamic",
    "white-box",
    "transfer",
)
NORMS = ("linf", "l2", "l1")
ROW_KEYS = (
    *("experiment", "dataset", "target_model", "attack", "threat_model", "targeted"),
    *("target_class", "epsilon", "norm", "num_images"),
    *("clean_accuracy", "robust_accuracy"),
    *("attack_success_rate", "success_over", "success_low", "success_high"),
    *("unchanged", "gradient_zero", "gradient_not_finite"),
    *("linf_max", "l2_mean", "rms_mean", "seconds"),
    *("images_per_second", "queries", "queries_mean", "queries_median"),
    *("wasted", "seed"),
    *("rounded_success_rate", "rounded_linf_max"),
)


def make_row(
    evaluation: Evaluation,
    *,
    experiment: str,
    dataset: str,
    target_model: str,
    attack: str,
    threat_model: str,
    epsilon: float | None,
    norm: str | None,
    seed: int | None,
    queries: float | None = None,
    queries_mean: float | None = None,
    queries_median: float | None = None,
    wasted: int | None = None,
    success_over: str | None = None,
) -> dict[str, Any]:
    """Return the row of `results.json` of an evaluation.

    `linf_max` covers all images. `l2_mean` and `rms_mean` cover the counted images on
    which the attack succeeded: an attack that fails may return the clean image, and its
    zero distance must not lower the means. `unchanged`, `gradient_zero` and
    `gradient_not_finite` are shares of the counted images, see `Evaluation.share`.
    `target_class` is None unless all images have the same wanted class.

    Args:
      evaluation: of one attack on one model.
      experiment: name of the experiment.
      dataset: name of the data set, as configured.
      target_model: name of the attacked model.
      attack: a name that distinguishes the rows of an experiment: the registry's,
        `ensemble`, `aigan-stage-one`, or a section of the tables' attacks.
      threat_model: one of `THREAT_MODELS`.
      epsilon: bound of the perturbation, in pixel units; None if there is none.
      norm: of that bound: `linf`, `l2`, `l1`; None if there is none.
      seed: seed of the run; None if nothing was random.
      queries: number of queries to the black box in all, if counted.
      queries_mean: of each attacked image.
      queries_median: of each attacked image.
      wasted: number of further images sent to it without a usable answer, if counted.
      success_over: see `Evaluation.counted`.

    Returns:
      Python values by `ROW_KEYS`, in that order; None where a field does not apply.

    Raises:
      ValueError: for an unknown threat model, norm or denominator; or if an L-infinity
        or L2 distance exceeds `epsilon` by more than rounding.
    """
    if threat_model not in THREAT_MODELS:
        raise unknown_name("threat model", threat_model, THREAT_MODELS)
    if norm is not None and norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if epsilon is not None:
        check_at_least("epsilon", epsilon, 0)
        measured = norm if norm in ("linf", "l2") else None
        largest = getattr(evaluation, measured).max() if measured else 0
        if measured and largest > evaluation.largest_distance(epsilon, measured):
            raise ValueError(
                f"Perturbations must be at most `epsilon` = {epsilon:g} in the norm "
                f"{norm!r}, got one of {largest:g}; give the epsilon and the norm that "
                "the attack used, or None for both if it has no bound."
            )
    over = evaluation.default_over if success_over is None else success_over
    success, seconds = evaluation.success(over), evaluation.seconds
    rounded = evaluation.rounded
    found = evaluation.counted(over) & evaluation.succeeded
    l2, rms = (
        sizes[found].mean() if found.any() else None
        for sizes in (evaluation.l2, evaluation.rms)
    )
    targets = evaluation.target_labels
    classes = () if targets is None else np.unique(targets)
    target_class = classes[0] if len(classes) == 1 else None
    values = (  # in the order of `ROW_KEYS`
        *(experiment, dataset, target_model, attack, threat_model, evaluation.targeted),
        *(target_class, epsilon, norm, evaluation.num_images),
        *(evaluation.clean_accuracy, evaluation.robust_accuracy),
        *(success.rate, over, success.low, success.high),
        *(evaluation.share(mark, over) for mark in MARKS),
        *(evaluation.linf.max(), l2, rms, seconds),
        *(evaluation.num_images / seconds if seconds else None, queries),
        *(queries_mean, queries_median, wasted, seed),
        *((rounded.success(over).rate, rounded.linf.max()) if rounded else (None,) * 2),
    )
    return dict(zip(ROW_KEYS, map(_plain, values), strict=True))


def make_clean_row(
    evaluation: Evaluation,
    *,
    experiment: str,
    dataset: str,
    target_model: str,
    seed: int | None,
) -> dict[str, Any]:
    """Return the row of an evaluation from `evaluate_clean`; see `make_row`.

    All fields of an attack are None.
    """
    return dict.fromkeys(ROW_KEYS) | {
        "experiment": experiment,
        "dataset": dataset,
        "target_model": target_model,
        "num_images": evaluation.num_images,
        "clean_accuracy": evaluation.clean_accuracy,
        "seed": _plain(seed),
    }


def _plain(value: Any) -> Any:
    """Return a scalar or a text as a Python value, NaN as None."""
    value = np.asarray(value).item()
    return None if isinstance(value, float) and math.isnan(value) else value
