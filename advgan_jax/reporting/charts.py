"""Charts of numbers: matrices, bounds, times and curves.

Each function returns a new figure, and raises `ValueError` if there is nothing to draw
or its arguments disagree in size. Shares are in [0, 1]. `label` names the drawn
numbers, `title` the figure. `curves` contains the points of each name in any order.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from advgan_jax.reporting import style
from advgan_jax.reporting.style import Axes, Figure
from advgan_jax.reporting.tables import percent

# Metrics that are shares; all others are losses, each drawn on its own scale.
_SHARES = ("rate", "accuracy")
_COUNTS = ("step", "queries")  # measure progress and are not drawn
_Curves = Mapping[str, Sequence[tuple[float, float]]]


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
    """Draw a matrix of shares, for pairs of classes or of models.

    `matrix` and the `published` shares, in brackets below, are float `[R, C]`; a cell
    with NaN stays empty. Each cell contains its percentage if neither R nor C is above
    20. The two labels name the rows and the columns.
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
        height, title = 0.6, f"{title}\npublished in brackets"
    rows, columns = matrix.shape
    figure, axis = style.one_axis(2.2 + 0.5 * columns, 1.5 + height * rows)
    axis.set_facecolor("#eeeeee")
    masked = np.ma.masked_invalid(matrix)
    shown = axis.imshow(masked, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    slanted = max(map(len, column_names), default=0) > 4
    _name_columns(axis, column_names, slanted=slanted)
    axis.set_yticks(range(rows), row_names)
    axis.tick_params(length=0, labelsize=8)
    axis.set_xlabel(column_label, fontsize=9)
    axis.set_ylabel(row_label, fontsize=9)
    axis.set_title(title, fontsize=10)
    if max(matrix.shape) <= 20:  # smaller cells are too small to read
        _annotate(axis, matrix, others)
    bar = figure.colorbar(shown, ax=axis, pad=0.02)
    style.show_percent(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_linewidth(0.5)
    return figure


def _name_columns(axis: Axes, names: Sequence[str], *, slanted: bool = True) -> None:
    """Label the ticks of the horizontal axis."""
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(names)), names, **(slant if slanted else {}))


def _annotate(axis: Axes, matrix: np.ndarray, others: np.ndarray) -> None:
    """Write percentages into the cells, those of `others` in brackets below."""

    def _short(share: float) -> str:
        # 0 and 100 have no decimal.
        return f"{100 * share:.0f}" if share in (0, 1) else percent(share)

    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            text, other = _short(float(value)), others[row, column]
            if np.isfinite(other):
                text += f"\n({_short(float(other))})"
            look = {"fontsize": 7, "color": "white" if value < 0.6 else "black"}
            axis.text(column, row, text, ha="center", va="center", **look)


def bound_chart(
    names: Sequence[str],
    bounds: Sequence[float],
    measured: Sequence[np.ndarray],
    *,
    title: str = "",
) -> Figure:
    """Draw upper bounds of layers as lines, measured expansions as boxes.

    `measured` contains an array for each layer, one number for each image; NaN is
    skipped. The scale is logarithmic.
    """
    if not names or not len(names) == len(bounds) == len(measured):
        raise ValueError(
            "`names`, `bounds` and `measured` must have the same length >= 1, got "
            f"{len(names)}, {len(bounds)} and {len(measured)}."
        )
    figure, axis = style.one_axis(2 + 0.55 * len(names), 3.6)
    places = np.arange(len(names))
    axis.hlines(bounds, places - 0.35, places + 0.35, style.RED, label="upper bound")
    boxes = {"widths": 0.5, "positions": places, "manage_ticks": False}
    axis.boxplot([x[~np.isnan(x)] for x in measured], whis=(0, 100), **boxes)
    axis.set_yscale("log")
    _name_columns(axis, names)
    style.legend_beside(axis)
    style.style_axis(axis, title, y="expansion of adversarial changes")
    return figure


def time_chart(
    seconds: Mapping[str, float],
    *,
    label: str,
    title: str = "",
    published: Mapping[str, float | str] | None = None,
) -> Figure:
    """Draw times above 0 on a logarithmic scale, with `published` ones of some names.

    A published text such as `< 0.01` is a bound; it is written next to its mark.
    """
    if not seconds:
        raise ValueError("`seconds` must have at least one entry, got none.")
    figure, axis = style.one_axis(5.2, 0.9 + 0.32 * len(seconds))
    # Points, not bars: on a logarithmic scale the length of a bar means nothing.
    axis.plot(
        list(seconds.values()), list(seconds), "o", color=style.BLUE, ms=7, label="ours"
    )
    for number, (name, value) in enumerate((published or {}).items()):
        bound = float(str(value).strip("<> "))
        mark = "published" if number == 0 else None  # once in the legend
        axis.plot([bound], [name], "o", color=style.GREY, mfc="none", ms=7, label=mark)
        if isinstance(value, str):
            place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            axis.annotate(value, (bound, name), fontsize=7, color=style.GREY, **place)
    if published:
        figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    axis.set_xscale("log")
    axis.margins(x=0.08, y=0.15)  # room for the texts and the marks
    axis.invert_yaxis()
    style.style_axis(axis, title, x=label)
    return figure


def training_curves(
    metrics_rows: Sequence[Mapping[str, Any]], *, switches: Sequence[int] = ()
) -> Figure:
    """Draw the metrics of a training: a panel for each loss, one for all shares.

    Args:
      metrics_rows: from `read_metrics`, `{"step": ..., name: value}`; None is skipped.
      switches: steps after which another phase of the training began, dotted lines.
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
    figure = style.new_figure(3.3 * columns, 2.5 * lines, "constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        for name in panel:
            known = [row for row in metrics_rows if row.get(name) is not None]
            steps, values = [r["step"] for r in known], [r[name] for r in known]
            marker = "." if len(known) < 40 else ""
            axis.plot(steps, values, marker=marker, lw=1.4, label=name)
        for switch in switches:
            axis.axvline(switch, color=style.GREY, lw=1, ls=":")
        title = panel[0] if len(panel) == 1 else "share of images"
        style.style_axis(axis, title, x="step")
        axis.locator_params("x", nbins=4, steps=[1, 2, 5, 10], integer=True)
        if panel is shares:
            axis.set_ylim(-0.03, 1.03)
            style.show_percent(axis.yaxis)
        if len(panel) > 1:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure


def robustness_curve(curves: _Curves, *, norm: str = "linf", title: str = "") -> Figure:
    """Draw points `(epsilon, accuracy under attack)`; `norm` is that of epsilon."""
    norm = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}.get(norm, norm)
    figure = _share_curves(curves, title, f"epsilon ({norm})", "accuracy under attack")
    figure.axes[0].set_xlim(left=0)
    return figure


def query_curve(curves: _Curves, *, title: str = "") -> Figure:
    """Draw points `(queries to a black box, share of images)`."""
    return _share_curves(curves, title, "queries", "share of images")


def error_curves(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    *,
    references: Mapping[str, float],
    shown: str = "test",
    title: str = "",
) -> Figure:
    """Draw points `(epoch, error)` on a logarithmic scale.

    `curves` has the points of each model by kind: `shown`, on the images that `shown`
    names, solid, and `training`, thin. `references` are errors to compare with, dotted.
    """
    if not curves or not all(all(kinds.values()) for kinds in curves.values()):
        raise ValueError("`curves` must have at least one point each, got none.")
    figure, axis = style.one_axis(5.2, 3.4)
    styles = {"shown": {"lw": 1.6}, "training": {"lw": 0.8, "ls": "--"}}
    for number, (name, kinds) in enumerate(curves.items()):
        for kind, points in kinds.items():
            epochs, errors = zip(*sorted(points), strict=True)
            label = name if kind == "shown" else None
            axis.plot(epochs, errors, color=f"C{number}", label=label, **styles[kind])
    for name, error in references.items():
        axis.axhline(error, color=style.GREY, lw=1, ls=":", label=name)
    style.style_axis(axis, title, "epoch", f"error, {shown} (solid) and training")
    axis.set_yscale("log")
    style.show_percent(axis.yaxis)
    axis.yaxis.set_minor_formatter(axis.yaxis.get_major_formatter())
    style.legend_beside(axis)
    return figure


def _share_curves(curves: _Curves, title: str, x: str, y: str) -> Figure:
    """Draw curves of shares on one axis."""
    if not curves or not all(curves.values()):
        raise ValueError("`curves` must have at least one point each, got none.")
    figure, axis = style.one_axis(5.2, 3.4)
    for (name, points), marker in zip(
        curves.items(), cycle("osD^vPX*<>"), strict=False
    ):
        sizes, shares = zip(*sorted(points), strict=True)
        axis.plot(sizes, shares, marker=marker, ms=4, lw=1.4, label=name, clip_on=False)
    style.style_axis(axis, title, x, y)
    axis.set_ylim(0, 1)
    style.show_percent(axis.yaxis)
    style.legend_beside(axis)
    return figure
