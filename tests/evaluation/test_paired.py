"""The paired test, against the exact binomial one."""

import math

import numpy as np
import pytest

from advgan_jax.evaluation import paired_test


def outcomes(only_first, only_second, both=5, neither=50):
    """Return errors of two models on the same images."""
    counts = (only_first, only_second, both, neither)
    first = np.repeat([True, False, True, False], counts)
    second = np.repeat([False, True, True, False], counts)
    return first, second


@pytest.mark.parametrize("counts", [(2, 12), (9, 11), (30, 18)])
def test_one_training_gives_mcnemars_test(counts):
    total, most = sum(counts), max(counts)
    tail = sum(math.comb(total, k) for k in range(most, total + 1)) / 2**total
    p = paired_test(*outcomes(*counts))
    exact = min(1, 2 * tail)
    # Five standard errors of 10,000 draws.
    assert abs(p - exact) < 5 * math.sqrt(exact * (1 - exact) / 10_000) + 2e-4


def test_trainings_are_averaged_per_image():
    """Two trainings that differ on the same images are no more evidence than one."""
    first, second = outcomes(3, 14)
    once = paired_test(first, second, seed=3)
    twice = paired_test(np.stack([first] * 2), np.stack([second] * 2), seed=3)
    assert once == twice
    # Opposite differences cancel out.
    both = np.stack([first, second])
    assert paired_test(both, both[::-1]) == 1


def test_equal_outcomes_and_the_least_value():
    first, _ = outcomes(4, 4)
    assert paired_test(first, first) == 1
    assert paired_test(*outcomes(60, 0), num_permutations=99) == 0.01


@pytest.mark.parametrize("size", [1e-12, 1e9])
def test_sizes_of_outcomes_do_not_matter(size):
    first, second = outcomes(3, 14)
    expected = paired_test(first, second)
    assert paired_test(size * first, size * second) == expected


def test_rejected():
    with pytest.raises(ValueError, match="same images, got 3 and 4"):
        paired_test(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"shape \[N\] or \[S, N\], got shape"):
        paired_test(np.zeros((1, 2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="`second` must be finite"):
        paired_test(np.zeros(2), [0.0, np.nan])
    with pytest.raises(ValueError, match="`num_permutations` must be"):
        paired_test(np.zeros(3), np.ones(3), num_permutations=0)
