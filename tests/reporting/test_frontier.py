"""The figure of costs in queries."""

import math

import pytest

from advgan_jax.evaluation import FrontierPoint
from advgan_jax.reporting import frontier_chart


def test_what_is_computed_is_dashed():
    points = [
        FrontierPoint(1, math.inf, True),
        FrontierPoint(2, 20.0, True),
        FrontierPoint(3, 10.0, True),
        FrontierPoint(9, 10.0, False),
    ]
    figure = frontier_chart({"square": points}, {"square": [(1, 0.0), (9, 1.0)]})
    left, right = figure.axes
    solid, dashed = left.lines[:2]
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert list(solid.get_xdata()) == [2, 3]
    assert list(dashed.get_xdata()) == [3, 9]
    assert list(right.lines[0].get_ydata()) == [0, 1]
    with pytest.raises(ValueError, match="at least one attack"):
        frontier_chart({}, {})
