"""The result of an evaluation, image by image, and the rates computed from it."""

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from advgan_jax.checks import check_at_least, check_labels, unknown_name

OVER = ("all", "correct", "correct-not-target")
_DISTANCES = ("linf", "l2")


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Return Wilson's score interval of a proportion.

    .. math:: \frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}}
        {1 + z^2 / n}

    Unlike the normal interval, it stays within [0, 1] and has a positive width at 0 and
    at n successes, which are common for attacks. Both ends are NaN without trials.

    Args:
      successes: from 0 to `trials`.
      trials: n.
      confidence: the interval's nominal coverage, in (0, 1).

    Raises:
      ValueError: if the counts or the confidence are out of range.

    References:
      Wilson, 1927, Probable inference, the law of succession, and statistical inference
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            f"`successes` must be from 0 to `trials`, got {successes} of {trials}."
        )
    if not 0 < confidence < 1:
        raise ValueError(
            f"`confidence` must be between 0 and 1, got {confidence}; 95 % is 0.95."
        )
    if trials == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, n = successes / trials, trials
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    # Exactly 0 and 1 at the ends, which rounding would miss.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return low, high


class Success(NamedTuple):
    """An attack success rate and its Wilson interval; NaN without trials.

    Trials are the counted images, successes those on which the attack succeeded.
    """

    successes: int
    trials: int
    rate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One attack on one model, measured on each of N images.

    Attributes:
      labels: true classes, int `[N]`.
      target_labels: wanted classes, int `[N]`; None for an untargeted attack.
      clean_predictions: the model's classes of the clean images, int `[N]`.
      adversarial_predictions: its classes of the adversarial images, int `[N]`.
      linf: largest change of a pixel, float64 `[N]`, in pixel units.
      l2: Euclidean length of the perturbation, float64 `[N]`, in pixel units.
      rms: `l2 / sqrt(H W C)`, float64 `[N]`.
      seconds: time of the attack on all images, without compilation; None if unknown.
      examples: the first M adversarial images, float32 `[M, H, W, C]`, where M is
        `keep` of `evaluate`; None if they are not of one attack.
    """

    labels: np.ndarray
    target_labels: np.ndarray | None
    clean_predictions: np.ndarray
    adversarial_predictions: np.ndarray
    linf: np.ndarray
    l2: np.ndarray
    rms: np.ndarray
    seconds: float | None = None
    examples: np.ndarray | None = None

    @property
    def num_images(self) -> int:
        """The number of images, N."""
        return len(self.labels)

    @property
    def targeted(self) -> bool:
        """Whether the attack was targeted."""
        return self.target_labels is not None

    @property
    def default_over(self) -> str:
        """The default denominator of success rates, see `counted`."""
        return "correct-not-target" if self.targeted else "correct"

    @property
    def clean_accuracy(self) -> float:
        """Share of the clean images that are classified correctly."""
        return float(np.mean(self.clean_predictions == self.labels))

    @property
    def robust_accuracy(self) -> float:
        """Share of the adversarial images that are classified correctly."""
        return float(np.mean(self.adversarial_predictions == self.labels))

    @property
    def succeeded(self) -> np.ndarray:
        """Whether the prediction is the wanted or (untargeted) a wrong class, `[N]`."""
        if self.targeted:
            return self.adversarial_predictions == self.target_labels
        return self.adversarial_predictions != self.labels

    def counted(self, over: str | None = None) -> np.ndarray:
        """Return which images a success rate counts, bool `[N]`.

        Args:
          over: `all`; `correct`, classified correctly before the attack; or
            `correct-not-target`, those of them that are not of the wanted class.
            Default `correct`, and `correct-not-target` for targeted attacks.

        Raises:
          ValueError: for an unknown name, or `correct-not-target` if untargeted.
        """
        over = self.default_over if over is None else over
        if over not in OVER:
            raise unknown_name("denominator", over, OVER)
        if over == "all":
            return np.ones(self.num_images, bool)
        correct = self.clean_predictions == self.labels
        if over == "correct":
            return correct
        if not self.targeted:
            raise ValueError(
                "'correct-not-target' needs `target_labels`, this evaluation is of an "
                "untargeted attack; use 'correct'."
            )
        return correct & (self.labels != self.target_labels)

    def success(self, over: str | None = None, *, confidence: float = 0.95) -> Success:
        """Return the attack success rate over the images that `counted` selects."""
        counted = self.counted(over)
        successes, trials = int((self.succeeded & counted).sum()), int(counted.sum())
        rate = successes / trials if trials else math.nan
        interval = wilson_interval(successes, trials, confidence)
        return Success(successes, trials, rate, *interval)


def within(evaluation: Evaluation, epsilon: float, norm: str = "linf") -> Evaluation:
    """Return an evaluation in which perturbations beyond `epsilon` are undone.

    One run of an attack that minimises the perturbation thus gives the whole robustness
    curve.

    Args:
      evaluation: of an attack without a bound.
      epsilon: the largest allowed distance, in pixel units.
      norm: `linf` or `l2`.

    Raises:
      ValueError: for an unknown norm or a negative epsilon.
    """
    if norm not in _DISTANCES:
        raise unknown_name("distance", norm, _DISTANCES)
    check_at_least("epsilon", epsilon, 0)
    near = getattr(evaluation, norm) <= epsilon
    changes = {
        name: np.where(near, getattr(evaluation, name), 0)
        for name in ("linf", "l2", "rms")
    }
    changes["adversarial_predictions"] = np.where(
        near, evaluation.adversarial_predictions, evaluation.clean_predictions
    )
    return dataclasses.replace(evaluation, **changes, examples=None)


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
    picked = {
        name: np.stack([getattr(e, name) for e in evaluations])[winner, columns]
        for name in ("adversarial_predictions", "linf", "l2", "rms")
    }
    seconds = total_seconds(evaluations)
    return dataclasses.replace(first, **picked, seconds=seconds, examples=None)


def total_seconds(evaluations: Sequence[Evaluation]) -> float | None:
    """Return the time of several attacks; None if one is unknown."""
    known = [e.seconds for e in evaluations if e.seconds is not None]
    return sum(known) if len(known) == len(evaluations) else None


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
