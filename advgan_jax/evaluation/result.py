"""The result of an evaluation, image by image, and the rates computed from it."""

import dataclasses
import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from advgan_jax import checks
from advgan_jax.checks import unknown_name
from advgan_jax.types import Bounds

OVER = ("all", "correct", "correct-not-target")
MARKS = ("unchanged", "gradient_zero", "gradient_not_finite")


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

    Example:
      >>> low, high = wilson_interval(99, 100)
      >>> print(f"{low:.3f} to {high:.3f}")
      0.946 to 0.998
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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
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
      gradient_zero: whether the gradient that the attack follows is zero at the clean
        image (see `evaluate`), bool `[N]`; None if it was not measured.
      gradient_not_finite: whether that gradient is NaN or infinite in a pixel.
      bounds: the least and the greatest pixel value.
      margin: the logits by which the attack succeeds, float32 `[N]`; negative where it
        fails. They are the best wrong class over the true one, or of a targeted attack
        the wanted class over the best other one. None if unknown.
      rounded: the same attack after its images were rounded by `attacks.quantize`;
        None unless `levels` of `evaluate` was given.
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
    gradient_zero: np.ndarray | None = None
    gradient_not_finite: np.ndarray | None = None
    bounds: Bounds = (0.0, 1.0)
    margin: np.ndarray | None = None
    rounded: "Evaluation | None" = None

    def __repr__(self) -> str:
        """Summarise the numbers; the arrays of many images would hide them."""
        found = self.success()
        return (
            f"Evaluation({self.num_images} images, clean accuracy "
            f"{self.clean_accuracy:.1%}, robust accuracy {self.robust_accuracy:.1%}, "
            f"success {found.successes} of {found.trials}: {found.rate:.1%} "
            f"[{found.low:.1%}, {found.high:.1%}])"
        )

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

    @property
    def unchanged(self) -> np.ndarray:
        """Whether the attack failed and returned the clean image, bool `[N]`.

        A search that finds nothing, for want of steps for example, returns it, too.
        """
        return ~self.succeeded & (self.linf == 0)

    def share(self, mark: str, over: str | None = None) -> float:
        """Return the share of the images that `counted` selects that have a mark.

        Args:
          mark: `unchanged`, `gradient_zero` or `gradient_not_finite`.
          over: see `counted`.

        Returns:
          The share; NaN without counted images, or if the mark was not measured.

        Raises:
          ValueError: for an unknown name.
        """
        if mark not in MARKS:
            raise unknown_name("mark", mark, MARKS)
        values, counted = getattr(self, mark), self.counted(over)
        if values is None or not counted.any():
            return math.nan
        return float(values[counted].mean())

    def largest_distance(self, epsilon: float, norm: str = "linf") -> float:
        """Return the largest distance that counts as `epsilon`; see `checks`."""
        moved = self.rms > 0
        num_pixels = round(np.max((self.l2[moved] / self.rms[moved]) ** 2, initial=1))
        return checks.largest_distance(
            epsilon, self.bounds, norm=norm, num_pixels=num_pixels
        )

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
