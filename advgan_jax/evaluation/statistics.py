"""Confidence intervals of proportions."""

import math
from statistics import NormalDist


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Return Wilson's score interval of a proportion.

    .. math:: \frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}}
        {1 + z^2 / n}

    Unlike the normal interval, it stays within [0, 1] and has a positive width at 0 and
    at n successes, which are common for attacks.

    Args:
      successes: from 0 to `trials`.
      trials: n.
      confidence: the interval's nominal coverage, in (0, 1).

    Returns:
      `(low, high)`; both NaN without trials.

    Raises:
      ValueError: if the counts or the confidence are out of range.

    References:
      Wilson, 1927, Probable inference, the law of succession, and statistical
      inference.
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            "`successes` must be from 0 to `trials`, got "
            f"{successes} of {trials} trials."
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
