"""Test whether two models, or two attacks, differ on the same images."""

import numpy as np
from numpy.typing import ArrayLike

from advgan_jax.checks import check_at_least, check_seed


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int = 0,
    num_permutations: int = 10_000,
) -> float:
    r"""Test whether outcomes on the same images have equal means.

    .. math:: d_n = \frac1S \sum_s (a_{sn} - b_{sn}), \qquad
        p = P\Big(\Big|\sum_n \sigma_n d_n\Big| \ge \Big|\sum_n d_n\Big|\Big)

    with random signs `sigma`. For one seed this is McNemar's test. The images are the
    sample: the p-value says nothing about other trainings.

    Args:
      first: outcomes of N images, such as errors, bool or float `[N]`, or `[S, N]` of S
        trainings.
      second: the outcomes that they are compared with, `[N]` or `[S', N]`.
      seed: of the signs.
      num_permutations: number of draws of the signs.

    Returns:
      The two-sided p-value, at least `1 / (num_permutations + 1)`: the given signs
      count as one more draw.

    Raises:
      ValueError: if the outcomes are not finite or not of the same images, or a number
        is out of range.
    """
    check_seed(seed)
    check_at_least("num_permutations", num_permutations, 1)
    means = []
    for name, outcomes in (("first", first), ("second", second)):
        values = np.atleast_2d(np.asarray(outcomes, np.float64))
        if values.ndim != 2 or not values.size:
            raise ValueError(
                f"`{name}` must be outcomes of shape [N] or [S, N], got shape "
                f"{np.shape(outcomes)}."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"`{name}` must be finite outcomes, got NaN or infinity.")
        means.append(values.mean(axis=0))
    if len(means[0]) != len(means[1]):
        raise ValueError(
            "`first` and `second` must be outcomes of the same images, got "
            f"{len(means[0])} and {len(means[1])}."
        )
    differences = means[0] - means[1]
    # The others add nothing to any sum.
    differences = differences[differences != 0]
    generator, hits = np.random.default_rng(seed), 1
    # Sums in another order differ by rounding; equal sums must count.
    least = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    for _ in range(num_permutations):
        signs = generator.integers(0, 2, len(differences)) * 2 - 1
        hits += abs(signs @ differences) >= least
    return hits / (num_permutations + 1)
