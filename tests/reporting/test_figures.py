"""Pictures and charts: what is on them."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from advgan_jax.reporting import (
    attack_grid,
    comparison_grid,
    heatmap,
    query_curve,
    robustness_curve,
    save_figure,
    target_grids,
    training_curves,
)
from advgan_jax.reporting.figures import RIGHT, WRONG

LABELS = np.array([3, 5])
SEEN, FOOLED = np.array([3, 4]), np.array([8, 5])


def grid(channels, **options):
    clean = np.full((2, 4, 4, channels), 0.5, np.float32)
    moved = clean.copy()
    moved[0, 0, 0] = 0.7
    moved[1, 1, 1] = 0.4
    return attack_grid(clean, moved, LABELS, SEEN, FOOLED, **options)


def drawn(axis):
    return np.asarray(axis.images[0].get_array())


def test_grid_of_grey_images():
    figure = grid(1)
    assert len(figure.axes) == 3 * 2 + 1  # and the colour bar
    titles = [axis.get_title() for axis in figure.axes[:6]]
    assert titles == ["3", "4", "L2 0.20", "L2 0.10", "8", "5"]
    colours = [to_hex(figure.axes[i].title.get_color()) for i in (0, 1, 4, 5)]
    assert colours == [RIGHT, WRONG, WRONG, RIGHT]
    rows = [figure.axes[i].get_ylabel() for i in (0, 2, 4)]
    assert rows == ["clean", "perturbation", "adversarial"]
    np.testing.assert_allclose(drawn(figure.axes[2])[0, 0], 0.2, rtol=1e-6)
    assert figure.axes[3].images[0].get_clim() == pytest.approx((-0.2, 0.2))
    scale = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert scale == ["-0.2", "0", "+0.2"]


@pytest.mark.parametrize("channels", [1, 3])
def test_target_grids_share_a_scale(channels):
    clean = np.full((2, 4, 4, channels), 0.5, np.float32)
    first = np.stack([clean + 0.1, clean, clean - 0.2], axis=1)
    figure = target_grids(clean, {"one": first, "two": first / 2 + 0.25}, "abc")
    assert len(figure.axes) == 2 * (1 + 3 + 3)
    line = figure.axes[:7]
    assert [axis.get_title() for axis in line] == ["", *"abcabc"]
    if channels == 1:
        limits = {axis.images[0].get_clim() for axis in line[1:]}
        (limit,) = limits
        assert limit == pytest.approx((-0.2, 0.2))
        values = [drawn(axis)[0, 0] for axis in line[1:]]
        np.testing.assert_allclose(values, [0.1, 0, -0.2, 0.05, 0, -0.1], atol=1e-7)
    texts = [text.get_text() for text in figure.texts]
    assert [text.split(":")[0] for text in texts] == ["one", "two"]
    with pytest.raises(ValueError, match=r"\[N, T, H, W, C\]"):
        target_grids(clean[:1], {"one": first}, "abc")


def test_grid_of_rgb_images():
    figure = grid(3, class_names="abcdefghi")
    assert len(figure.axes) == 6
    assert figure.axes[4].get_title() == "i"
    assert figure.axes[2].get_ylabel() == "perturbation\n(grey: 0,\nscale ±0.2)"
    np.testing.assert_allclose(drawn(figure.axes[2])[0, 0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(drawn(figure.axes[3])[1, 1], 0.25, rtol=1e-6)
    np.testing.assert_allclose(drawn(figure.axes[3])[0, 0], 0.5)


def test_line_of_pictures_for_each_attack():
    clean = np.zeros((2, 4, 4, 1), np.uint8)
    moved = np.full((2, 4, 4, 1), 0.5, np.float32)
    lines = {"fgsm": (moved, FOOLED), "none": (clean, SEEN)}
    figure = comparison_grid(clean, LABELS, SEEN, lines)
    assert [a.get_ylabel() for a in figure.axes[::2]] == ["clean", "fgsm", "none"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [str(c) for c in (*SEEN, *FOOLED, *SEEN)]
    assert to_hex(figure.axes[2].title.get_color()) == WRONG
    np.testing.assert_array_equal(drawn(figure.axes[3]), moved[1, ..., 0])
    with pytest.raises(ValueError, match="must have the shape"):
        comparison_grid(clean, LABELS, SEEN, {"fgsm": (moved[:1], FOOLED)})


def test_grid_without_any_change():
    clean = np.zeros((1, 4, 4, 1), np.uint8)
    figure = attack_grid(clean, clean, LABELS[:1], SEEN[:1], FOOLED[:1])
    assert figure.axes[1].images[0].get_clim() == (-1, 1)


def test_grid_refuses():
    clean = np.zeros((2, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match=r"C 1, 3 or 4, got \[2, 4, 4\]"):
        attack_grid(clean[..., 0], clean, LABELS, SEEN, FOOLED)
    with pytest.raises(ValueError, match=r"got \[1, 4, 4, 1\] and"):
        attack_grid(clean, clean[:1], LABELS, SEEN, FOOLED)
    with pytest.raises(ValueError, match=r"predictions \(2,\), got .* \(1,\)"):
        attack_grid(clean, clean, LABELS, SEEN, FOOLED[:1])


def test_training_curves():
    rows = [
        {"step": 1, "generator_loss": 2.0, "hinge_loss": 0.1, "success_rate": 0.2},
        {"step": 2, "generator_loss": None, "hinge_loss": 0.3, "success_rate": 0.7},
        {"step": 3, "accuracy": 0.9},
    ]
    figure = training_curves(rows)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["generator_loss", "hinge_loss", "share of images"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3]]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 2.0]]
    assert [line.get_label() for line in figure.axes[2].lines] == [
        "success_rate",
        "accuracy",
    ]
    with pytest.raises(ValueError, match="at least one metric"):
        training_curves([{"step": 1}])


def test_training_curves_show_where_a_training_changed():
    rows = [{"step": step, "loss": 1.0, "accuracy": 0.5} for step in (1, 9)]
    figure = training_curves(rows, switches=[4])
    for axis in figure.axes:
        (line,) = (x for x in axis.lines if x.get_linestyle() == ":")
        assert set(line.get_xdata()) == {4}


def test_training_curves_of_a_metric_that_never_was_finite():
    figure = training_curves([{"step": 1, "loss": None, "accuracy": 0.5}])
    assert [axis.get_title() for axis in figure.axes] == ["loss", "accuracy"]


def test_heatmap():
    matrix = [[np.nan, 0.99996, 1], [0.5, np.nan, 0]]
    figure = heatmap(matrix, "ab", "abc", "pairs", row_label="true")
    axis = figure.axes[0]
    texts = {t.get_position(): t.get_text() for t in axis.texts}
    assert texts == {(1, 0): "99.996", (2, 0): "100", (0, 1): "50.0", (2, 1): "0"}
    assert (axis.get_title(), axis.get_ylabel()) == ("pairs", "true")
    published = [[0.25, np.nan, 0.9], [np.nan, 1, 1]]
    figure = heatmap(matrix, "ab", "abc", "", published=np.array(published))
    texts = {t.get_position(): t.get_text() for t in figure.axes[0].texts}
    assert texts[2, 0] == "100\n(90.0)"  # none where ours is missing, or theirs
    assert (texts[1, 0], texts[0, 1], texts[2, 1]) == ("99.996", "50.0", "0\n(100)")
    assert not heatmap(np.ones((30, 2)), range(30), "ab", "").axes[0].texts
    with pytest.raises(ValueError, match=r"shape \[1, 3\].*got \[2, 3\]"):
        heatmap(matrix, "a", "abc", "")


def test_query_curve():
    figure = query_curve({"success": [(20, 0.5), (10, 0.25)]}, title="t")
    (axis,) = figure.axes
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[10, 0.25], [20, 0.5]])
    assert axis.get_xlabel() == "queries"
    with pytest.raises(ValueError, match="at least one point"):
        query_curve({})


def test_robustness_curve():
    figure = robustness_curve({"pgd": [(0.2, 0.1), (0.0, 0.9)], "fgsm": [(0, 1)]})
    axis = figure.axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[0.0, 0.9], [0.2, 0.1]]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["pgd", "fgsm"]
    assert axis.get_xlabel() == "epsilon (L-infinity)"
    for empty in ({}, {"pgd": []}):
        with pytest.raises(ValueError, match="at least one point"):
            robustness_curve(empty)


@pytest.mark.parametrize("make", [lambda: grid(1), lambda: grid(3)])
def test_saved_pictures_can_be_read(tmp_path, make):
    path = tmp_path / "figures" / "grid.png"
    save_figure(make(), path, dpi=50)
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]
    with Image.open(path) as picture:
        assert min(picture.size) > 100


def test_charts_are_drawn(tmp_path):
    rows = [{"step": step, "loss": 1.0, "accuracy": 0.5} for step in (1, 2)]
    for name, figure in {
        "training": training_curves(rows),
        "heatmap": heatmap(np.eye(2), ["a long name", "b"], ["a long name", "b"], "t"),
        "curve": robustness_curve({"pgd": [(0, 1), (1, 0)]}),
    }.items():
        save_figure(figure, tmp_path / f"{name}.png", dpi=50)


def test_no_global_state(repository):
    modules = (repository / "advgan_jax" / "reporting").glob("*.py")
    assert not [path for path in modules if "pyplot" in path.read_text("utf8")]
