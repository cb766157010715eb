"""Bounds, errors, times and chosen images: what is on them."""

import numpy as np
import pytest

from advgan_jax.reporting import (
    bound_chart,
    direction_grid,
    error_curves,
    time_chart,
)


def test_bounds_stand_above_what_was_measured():
    figure = bound_chart(
        ["one", "two"], [2.0, 8.0], [np.array([1.0, np.nan, 1.5]), np.array([0.5, 4])]
    )
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["one", "two"]
    (bounds,) = axis.collections
    assert [segment[0][1] for segment in bounds.get_segments()] == [2, 8]
    highest = max(
        line.get_ydata().max() for line in axis.lines if line.get_ydata().size
    )
    assert highest == 4  # the NaN is left out, whiskers reach the largest
    figure.canvas.draw()
    with pytest.raises(ValueError, match="got 1, 2 and 1"):
        bound_chart(["one"], [1.0, 2.0], [np.ones(3)])


def test_grid_shows_the_chosen_images():
    images = (np.arange(12, dtype=np.float32) / 12).reshape(12, 1, 1, 1)
    images = np.tile(images, (1, 4, 4, 1))
    rows = {"units": np.array([[3, 1], [5, 2]]), "random": np.array([[7, 8], [0, 11]])}
    figure = direction_grid(images, rows, title="all")
    shown = [float(axis.images[0].get_array()[0, 0]) * 12 for axis in figure.axes]
    np.testing.assert_allclose(shown, [3, 1, 5, 2, 7, 8, 0, 11], atol=1e-5)
    figure.canvas.draw()
    with pytest.raises(ValueError, match="all int"):
        direction_grid(images, {"a": rows["units"], "b": rows["units"][:1]})
    with pytest.raises(ValueError, match="at least one entry"):
        direction_grid(images, {})


def test_errors_by_epoch():
    points = {"shown": [(2, 0.02), (1, 0.03)], "training": [(1, 0.02), (2, 0.01)]}
    figure = error_curves({"dropout": points}, references={"paper": 0.013})
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
    assert drawn[:2] == [([1, 2], [0.03, 0.02]), ([1, 2], [0.02, 0.01])]
    assert axis.lines[2].get_ydata()[0] == 0.013
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["dropout", "paper"]
    figure.canvas.draw()
    with pytest.raises(ValueError, match="at least one point each"):
        error_curves({"dropout": {"shown": [], "training": []}}, references={})


def test_times_and_what_others_printed():
    seconds = {"FGSM": 0.4, "L-BFGS": 68.0, "C&W": 330.0}
    known = {"FGSM": 0.06, "C&W": "> 10800"}
    figure = time_chart(seconds, label="seconds", published=known)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    drawn = [(line.get_xdata(), line.get_ydata()) for line in axis.lines]
    ours, *theirs = [(list(x), list(y)) for x, y in drawn]
    assert ours == (list(seconds.values()), list(seconds))
    assert theirs == [([0.06], ["FGSM"]), ([10800.0], ["C&W"])]
    assert [text.get_text() for text in axis.texts] == ["> 10800"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["ours", "published"]
    figure.canvas.draw()
    assert not time_chart(seconds, label="seconds").legends
    with pytest.raises(ValueError, match="at least one entry"):
        time_chart({}, label="seconds")
