"""Curves and optimality from least distances that are given by hand."""

import numpy as np
import pytest

from advgan_jax.evaluation import (
    Evaluation,
    distances_of,
    local_optimality,
    minimum_norm_curve,
)

LABELS = np.array([0, 0, 0, 0, 0])


def make(distances, found=(True, True, True, True, True), clean=(1, 0, 0, 0, 0)):
    """An evaluation of five images, the first of which is misclassified already."""
    distances, clean = np.array(distances, float), np.array(clean)
    predictions = np.where(found, 1, clean)
    return Evaluation(LABELS, None, clean, predictions, distances, *[distances] * 2)


def test_the_curve_falls_at_each_distance():
    evaluation = make([0, 0.1, 0.3, 0.3, 0], (True, True, True, True, False))
    curve = minimum_norm_curve(evaluation, norm="l2")
    assert curve == [(0.0, 0.8), (0.1, pytest.approx(0.6)), (0.3, 0.2)]
    chosen = minimum_norm_curve(evaluation, [0.05, 0.2], norm="linf")
    assert chosen == [(0.05, 0.8), (0.2, pytest.approx(0.6))]
    expected = [0, 0.1, 0.3, 0.3, np.inf]
    np.testing.assert_array_equal(distances_of(evaluation, "l2"), expected)


def test_optimality_is_the_share_of_the_best_area():
    best = make([0, 0.1, 0.2, 0.3, 0.4])
    # Areas of the best up to 0.4: 0.3 + 0.2 + 0.1 + 0.
    worse = make([0, 0.2, 0.2, 0.4, 0], (True, True, True, True, False))
    found = local_optimality({"best": best, "worse": worse}, norm="l2")
    assert found["best"] == 1
    np.testing.assert_allclose(found["worse"], (0.2 + 0.2) / 0.6)
    nothing = make([0] * 5, [False] * 5)
    assert np.isnan(local_optimality({"nothing": nothing}, norm="l2")["nothing"])
    halves = {
        "first": make([0, 0.1, 0.4, 0.4, 0.4]),
        "second": make([0, 0.4, 0.2, 0.3, 0.4]),
    }
    found = local_optimality(halves, norm="l2")
    np.testing.assert_allclose(found["first"], 0.3 / 0.6)
    np.testing.assert_allclose(found["second"], 0.3 / 0.6)


def test_bad_arguments():
    one, other = make([0] * 5), make([0] * 5, clean=(1, 1, 0, 0, 0))
    with pytest.raises(ValueError, match="at least one"):
        local_optimality({}, norm="l2")
    with pytest.raises(ValueError, match="same images and the same model"):
        local_optimality({"one": one, "other": other}, norm="l2")
    with pytest.raises(ValueError, match="distance 'l1'"):
        minimum_norm_curve(one, norm="l1")
    targeted = Evaluation(LABELS, LABELS, *[LABELS] * 2, *[np.zeros(5)] * 3)
    with pytest.raises(ValueError, match="untargeted"):
        distances_of(targeted, "l2")
