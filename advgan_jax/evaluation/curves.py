"""Robust accuracy against epsilon, and how near an attack is to the best known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advgan_jax.checks import unknown_name
from advgan_jax.evaluation.combine import within, worst_case_evaluation
from advgan_jax.evaluation.result import Evaluation

_NORMS = ("linf", "l2")


def minimum_norm_curve(
    evaluation: Evaluation,
    epsilons: Sequence[float] | None = None,
    *,
    norm: str,
) -> list[tuple[float, float]]:
    r"""Return the robust accuracy at each epsilon, from one search for least distances.

    .. math:: \rho(\epsilon) = \frac1N \sum_i
        [\,f(x_i) = y_i \;\land\; d_i > \epsilon\,]

    Args:
      evaluation: of an attack without a bound.
      epsilons: bounds in pixel units; None: 0 and the distance of each success, where
        the curve falls.
      norm: that the attack minimised, `linf` or `l2`.

    Returns:
      Pairs of an epsilon and the robust accuracy, in the order of `epsilons`.

    Raises:
      ValueError: for an unknown norm, a negative epsilon, or a targeted evaluation.
    """
    distances = distances_of(evaluation, norm)
    if epsilons is None:
        epsilons = [
            0.0,
            *np.unique(distances[np.isfinite(distances) & (distances > 0)]),
        ]
    return [
        (float(epsilon), within(evaluation, epsilon, norm).robust_accuracy)
        for epsilon in epsilons
    ]


def robustness_curves(
    measured: Mapping[str, Mapping[Any, Evaluation]],
    epsilons: Sequence[float],
    *,
    norm: str,
) -> dict[str, dict[float, Evaluation]]:
    """Return the evaluations of several attacks at each epsilon, and of all together.

    Args:
      measured: by name and by epsilon; the epsilon None stands for an attack without a
        bound.
      epsilons: bounds in pixel units.
      norm: of the bounds, `linf` or `l2`.

    Returns:
      Evaluations by name and by epsilon, without the epsilons at which an attack was
      not measured. With several attacks, `ensemble` is the worst case of them.

    Raises:
      ValueError: see `within` and `worst_case_evaluation`.
    """

    def _curve(found: Mapping[Any, Evaluation]) -> dict[float, Evaluation]:
        if None in found:
            return {size: within(found[None], size, norm) for size in epsilons}
        return {size: found[size] for size in epsilons if size in found}

    curves = {name: _curve(found) for name, found in measured.items()}
    if len(curves) > 1:
        alike = {e: [c[e] for c in curves.values() if e in c] for e in epsilons}
        curves["ensemble"] = {
            epsilon: worst_case_evaluation(found)
            for epsilon, found in alike.items()
            if found
        }
    return curves


def distances_of(evaluation: Evaluation, norm: str) -> np.ndarray:
    """Return the distance of each success, float64 `[N]`, in pixel units.

    It is 0 where the clean image is misclassified, and infinite where the attack
    failed.

    Args:
      evaluation: of an untargeted attack without a bound.
      norm: of the distances, `linf` or `l2`.

    Raises:
      ValueError: for an unknown norm, or a targeted attack.
    """
    if norm not in _NORMS:
        raise unknown_name("distance", norm, _NORMS)
    if evaluation.targeted:
        raise ValueError(
            "`evaluation` must be of an untargeted attack, got a targeted one: it has "
            "another distance for each wanted class."
        )
    found = np.where(evaluation.succeeded, getattr(evaluation, norm), np.inf)
    return np.where(evaluation.clean_predictions == evaluation.labels, found, 0.0)


def local_optimality(
    evaluations: Mapping[str, Evaluation], *, norm: str
) -> dict[str, float]:
    r"""Return how near each attack is to the best of all attacks, image by image.

    .. math:: \xi_a = \frac{\int_0^{\epsilon_0} (\rho(0) - \rho_a(\epsilon))\,d\epsilon}
        {\int_0^{\epsilon_0} (\rho(0) - \rho_*(\epsilon))\,d\epsilon}
        = \frac{\sum_i \max(\epsilon_0 - d_{a,i}, 0)}{\sum_i \max(\epsilon_0 - d_i, 0)}

    where `d_i` is the least distance that any attack found, `rho_*` is the curve of
    these distances, and `epsilon_0` is the largest of them. It is 1 for an attack that
    is the best on each image.

    Args:
      evaluations: by name, of attacks without a bound on one model and the same images.
      norm: of the distances, `linf` or `l2`.

    Returns:
      A number in [0, 1] for each name; NaN if no attack succeeded on any image that is
      classified correctly, or if all least distances are equal.

    Raises:
      ValueError: without evaluations, for different images, models or bounds, a
        targeted attack, or an unknown norm.

    References:
      Cina et al., 2024, AttackBench (https://arxiv.org/abs/2404.19460), Sec. 3.
    """
    if not evaluations:
        raise ValueError("`evaluations` must contain at least one, got none.")
    first = next(iter(evaluations.values()))
    for other in evaluations.values():
        for name in ("labels", "clean_predictions"):
            if not np.array_equal(getattr(first, name), getattr(other, name)):
                raise ValueError(
                    "`evaluations` must have the same images and the same model, got "
                    f"different `{name}`; use the same split for all attacks."
                )
        if other.bounds != first.bounds:
            raise ValueError(
                "`evaluations` must have the same bounds, which are the unit of their "
                f"distances, got {first.bounds} and {other.bounds}."
            )
    correct = first.clean_predictions == first.labels
    distances = {
        name: distances_of(evaluation, norm)[correct]
        for name, evaluation in evaluations.items()
    }
    best = np.min(list(distances.values()), axis=0)
    farthest = np.max(best[np.isfinite(best)], initial=0.0)

    def _area(values: np.ndarray) -> float:
        return float(np.maximum(farthest - values, 0).sum())

    whole = _area(best)
    return {
        name: _area(values) / whole if whole else float("nan")
        for name, values in distances.items()
    }
