"""Split a targeted success rate by true and wanted class."""

from typing import NamedTuple

import numpy as np

from advgan_jax.checks import check_labels
from advgan_jax.evaluation.result import Evaluation


class PairSuccess(NamedTuple):
    """Targeted success by true class (row) and wanted class (column).

    Rates are float64 `[K, K]`, NaN without trials; the two counts are int `[K, K]`.
    """

    rates: np.ndarray
    successes: np.ndarray
    trials: np.ndarray


def success_by_pair(
    evaluation: Evaluation, num_classes: int, *, over: str | None = None
) -> PairSuccess:
    """Split a targeted success rate by true and wanted class.

    Args:
      evaluation: of a targeted attack.
      num_classes: K.
      over: see `Evaluation.counted`; with the default the diagonal is NaN.

    Raises:
      ValueError: if the attack was untargeted, or a class is not below K.
    """
    if evaluation.target_labels is None:
        raise ValueError(
            "`success_by_pair` needs an evaluation with `target_labels`, got one of an "
            "untargeted attack."
        )
    for name in ("labels", "target_labels"):
        values = getattr(evaluation, name)
        check_labels(values, evaluation.num_images, num_classes, name=name)
    counted = evaluation.counted(over)
    pairs = (evaluation.labels, evaluation.target_labels)
    trials = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(trials, pairs, counted)
    successes = np.zeros_like(trials)
    np.add.at(successes, pairs, counted & evaluation.succeeded)
    rates = np.full(trials.shape, np.nan)
    np.divide(successes, trials, out=rates, where=trials > 0)
    return PairSuccess(rates, successes, trials)
