"""Charts of numbers: training curves, matrices, robustness against epsilon."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from advgan_jax.reporting.tables import percent

# Metrics that are shares; all others are drawn as losses, each on its own scale.
_SHARES = ("rate", "accuracy")
_COUNTS = ("step", "queries")  # how far it was, which is nothing to draw
_GRID = {"color": "#dddddd", "linewidth": 0.6}
_MARKERS = "osD^vPX*<>"
_MOST_ANNOTATED = 20  # Classes; beyond, figures in the cells cannot be read.


def training_curves(
    metrics_rows: Sequence[Mapping[str, Any]], *, switches: Sequence[int] = ()
) -> Figure:
    """How a training went: each loss in a panel of its own, then all shares in one.

    Args:
      metrics_rows: from `read_metrics`, `{"step": ..., name: value}`; None is left out.
      switches: steps after which it went on in another way; each is a dotted line.

    Returns:
      The figure.

    Raises:
      ValueError: if there is nothing to draw.
    """
    names = list(dict.fromkeys(name for row in metrics_rows for name in row))
    names = [name for name in names if name not in _COUNTS]
    if not names:
        raise ValueError("`metrics_rows` must have at least one metric, got none.")
    shares = [name for name in names if name.endswith(_SHARES)]
    panels = [[name] for name in names if name not in shares]
    panels += [shares] if shares else []
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.3 * columns, 2.5 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        for name in panel:
            points = [(r["step"], r[name]) for r in metrics_rows if _has(r, name)]
            marker = "." if len(points) < 40 else ""
            steps, values = np.reshape(points, (-1, 2)).T
            axis.plot(steps, values, marker=marker, lw=1.4, label=name)
        for switch in switches:
            axis.axvline(switch, color="#666666", lw=1, ls=":")
        style_axis(axis, panel[0] if len(panel) == 1 else "share of images")
        axis.set_xlabel("step", fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        if panel is shares:
            axis.set_ylim(-0.03, 1.03)
            axis.yaxis.set_major_formatter(PercentFormatter(1))
        if len(panel) > 1:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure


def _has(row: Mapping[str, Any], name: str) -> bool:
    return row.get(name) is not None


def heatmap(
    matrix: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    *,
    published: np.ndarray | None = None,
    row_label: str = "",
    column_label: str = "",
) -> Figure:
    """A matrix of shares, for pairs of classes or of models.

    Args:
      matrix: float `[R, C]`, in [0, 1]; NaN cells stay empty.
      row_names: R names.
      column_names: C names.
      title: of the figure.
      published: float `[R, C]`, others' shares, in brackets below; NaN for none.
      row_label: what the rows are.
      column_label: what the columns are.

    Returns:
      The figure; percentages stand in the cells of up to 20 rows and columns.

    Raises:
      ValueError: if the names do not fit the matrix.
    """
    matrix = np.asarray(matrix, float)
    if matrix.shape != (len(row_names), len(column_names)):
        raise ValueError(
            f"`matrix` must have shape [{len(row_names)}, {len(column_names)}], one "
            f"row and column for each name, got {list(matrix.shape)}."
        )
    others = np.full(matrix.shape, np.nan) if published is None else published
    height = 0.42
    if np.isfinite(others).any():
        height, title = 0.6, f"{title}\nin brackets what is published"
    figure = Figure(
        figsize=(2.2 + 0.5 * matrix.shape[1], 1.5 + height * matrix.shape[0]),
        layout="constrained",
    )
    axis = figure.subplots()
    axis.set_facecolor("#eeeeee")
    shown = axis.imshow(
        np.ma.masked_invalid(matrix), cmap="viridis", vmin=0, vmax=1, aspect="auto"
    )
    slanted = max(map(len, column_names), default=0) > 4
    axis.set_xticks(
        range(matrix.shape[1]),
        column_names,
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )
    axis.set_yticks(range(matrix.shape[0]), row_names)
    axis.tick_params(length=0, labelsize=8)
    axis.set_xlabel(column_label, fontsize=9)
    axis.set_ylabel(row_label, fontsize=9)
    axis.set_title(title, fontsize=10)
    if max(matrix.shape) <= _MOST_ANNOTATED:
        _annotate(axis, matrix, others)
    bar = figure.colorbar(shown, ax=axis, format=PercentFormatter(1), pad=0.02)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_linewidth(0.5)
    return figure


def _annotate(axis, matrix, others):
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            text, other = _short(value), others[row, column]
            if np.isfinite(other):
                text += f"\n({_short(other)})"
            colour = "white" if value < 0.6 else "black"
            axis.text(
                column, row, text, ha="center", va="center", fontsize=7, color=colour
            )


def _short(share):
    return f"{100 * share:.0f}" if share in (0, 1) else percent(share)


def robustness_curve(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    norm: str = "linf",
    title: str = "",
) -> Figure:
    """Accuracy under attack against the size of the perturbation.

    Args:
      curves: for each attack its points `(epsilon, accuracy)`, in any order.
      norm: in which epsilon is measured.
      title: of the figure.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no point.
    """
    figure, axis = _share_axes(curves, title)
    axis.set_xlim(left=0)
    pretty = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}.get(norm, norm)
    axis.set_xlabel(f"epsilon ({pretty})", fontsize=9)
    axis.set_ylabel("accuracy under attack", fontsize=9)
    return figure


def query_curve(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str = ""
) -> Figure:
    """Shares against the number of queries that a black box was asked.

    Args:
      curves: by name the points `(queries, share)`, in any order.
      title: of the figure.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no point.
    """
    figure, axis = _share_axes(curves, title)
    axis.set_xlabel("queries", fontsize=9)
    axis.set_ylabel("share of images", fontsize=9)
    return figure


def _share_axes(
    curves: Mapping[str, Sequence[tuple[float, float]]], title: str
) -> tuple[Figure, Any]:
    """One axis with a line for each curve, shares upwards."""
    if not curves or not all(curves.values()):
        raise ValueError("`curves` must have at least one point each, got none.")
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axis = figure.subplots()
    for (name, points), marker in zip(
        curves.items(), _MARKERS * len(curves), strict=False
    ):
        sizes, shares = zip(*sorted(points), strict=True)
        axis.plot(sizes, shares, marker=marker, ms=4, lw=1.4, label=name, clip_on=False)
    style_axis(axis, title)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure, axis


def style_axis(axis: Axes, title: str) -> None:
    """Gives an axis the look that all charts share."""
    axis.set_title(title, fontsize=9)
    axis.grid(**_GRID)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
