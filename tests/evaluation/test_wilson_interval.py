"""Wilson's interval against numbers worked by hand."""

import math

import pytest

from advgan_jax.evaluation import wilson_interval

Z2 = 1.959963984540054**2


def test_ends_are_exact():
    # With no success the interval is [0, z^2 / (n + z^2)], and mirrored with only.
    low, high = wilson_interval(0, 10)
    assert low == 0.0
    assert high == pytest.approx(Z2 / (10 + Z2), rel=1e-12)
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(10, 10)[0] == pytest.approx(10 / (10 + Z2), rel=1e-12)


def test_half_is_symmetric():
    # p = 1/2: half the width is z / (2 sqrt(n + z^2)).
    low, high = wilson_interval(50, 100)
    half = math.sqrt(Z2) / (2 * math.sqrt(100 + Z2))
    assert low == pytest.approx(0.5 - half, rel=1e-12)
    assert high == pytest.approx(0.5 + half, rel=1e-12)


def test_published_example():
    # Newcombe, 1998, Table I: 81 of 263 and 15 of 148, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_confidence_widens():
    narrow, wide = (wilson_interval(7, 9, confidence=c) for c in (0.9, 0.99))
    assert wide[0] < narrow[0] < 7 / 9 < narrow[1] < wide[1]


def test_nothing_is_known_without_trials():
    assert all(math.isnan(end) for end in wilson_interval(0, 0))


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (1, 0)])
def test_refuses_counts(successes, trials):
    with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_refuses_confidence(confidence):
    with pytest.raises(ValueError, match=f"got {confidence}; 95 % is 0.95"):
        wilson_interval(1, 2, confidence)
