"""Charts of numbers: matrices, bars, bounds and times.

Each function returns a new figure, and raises `ValueError` if there is nothing to draw
or its arguments disagree in size.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from advgan_jax.reporting.style import (
    BLUE,
    GREY,
    RED,
    legend_beside,
    one_axis,
    style_axis,
)
from advgan_jax.reporting.tables import percent

_MOST_ANNOTATED = 20  # numbers in more rows or columns would be too small to read


def _check_any(name: str, values: Mapping[str, Any]) -> None:
    """Raise `ValueError` if there is nothing to draw."""
    if not values:
        raise ValueError(f"`{name}` must have at least one entry, got none.")


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

    Args:
      matrix: float `[R, C]`, in [0, 1]; NaN cells stay empty.
      row_names: R names.
      column_names: C names.
      title: of the figure.
      published: float `[R, C]`, published shares, in brackets below; NaN for none.
      row_label: what the rows are.
      column_label: what the columns are.

    Returns:
      The figure. Up to 20 rows and columns, each cell contains its percentage.
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
    figure, axis = one_axis(2.2 + 0.5 * columns, 1.5 + height * rows)
    axis.set_facecolor("#eeeeee")
    masked = np.ma.masked_invalid(matrix)
    shown = axis.imshow(masked, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    slanted = max(map(len, column_names), default=0) > 4
    _name_columns(axis, range(columns), column_names, slanted=slanted)
    axis.set_yticks(range(rows), row_names)
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


def _name_columns(
    axis: Axes,
    places: Sequence[int] | np.ndarray,
    names: Sequence[str],
    *,
    slanted: bool = True,
) -> None:
    """Label the ticks of the horizontal axis."""
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(places, names, **(slant if slanted else {}))


def _annotate(axis: Axes, matrix: np.ndarray, others: np.ndarray) -> None:
    """Write percentages into the cells, those of `others` in brackets below."""

    def short(share: float) -> str:
        """Return a percentage, 0 and 100 without a decimal."""
        return f"{100 * share:.0f}" if share in (0, 1) else percent(share)

    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            text, other = short(float(value)), others[row, column]
            if np.isfinite(other):
                text += f"\n({short(float(other))})"
            look = {"fontsize": 7, "color": "white" if value < 0.6 else "black"}
            axis.text(column, row, text, ha="center", va="center", **look)


def bar_chart(
    shares: Mapping[str, float],
    *,
    label: str,
    title: str = "",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw shares as bars, with lines at reference values.

    Args:
      shares: by name, in [0, 1].
      label: what they are shares of.
      title: of the figure.
      references: shares to compare with, by name.
    """
    _check_any("shares", shares)
    references = references or {}
    figure, axis = one_axis(5.2, 0.9 + 0.32 * len(shares))
    drawn = axis.barh(list(shares), list(shares.values()), color=BLUE, height=0.6)
    texts = [f"{100 * share:.2f} %" for share in shares.values()]
    axis.bar_label(drawn, texts, fontsize=8, padding=2)
    styles = cycle(("-", ":", "--", "-."))
    for (name, value), style in zip(references.items(), styles, strict=False):
        axis.axvline(value, color=RED, linewidth=1, linestyle=style, label=name)
    if references:
        legend_beside(axis)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.2 * max(*shares.values(), 1e-9, *references.values()))
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    style_axis(axis, title, x=label)
    return figure


def bound_chart(
    names: Sequence[str],
    bounds: Sequence[float],
    measured: Sequence[np.ndarray],
    *,
    title: str = "",
) -> Figure:
    """Draw upper bounds of layers above measured expansions, on a logarithmic scale.

    Args:
      names: of the layers.
      bounds: upper bound of each.
      measured: expansions of each, one number for each image; NaN is skipped.
      title: of the figure.

    Returns:
      The figure: a line for each bound, a box for the measurements.
    """
    if not names or not len(names) == len(bounds) == len(measured):
        raise ValueError(
            "`names`, `bounds` and `measured` must be as many, at least one, got "
            f"{len(names)}, {len(bounds)} and {len(measured)}."
        )
    figure, axis = one_axis(2 + 0.55 * len(names), 3.6)
    places = np.arange(len(names))
    axis.hlines(bounds, places - 0.35, places + 0.35, RED, label="upper bound")
    boxes = {"widths": 0.5, "positions": places, "manage_ticks": False}
    axis.boxplot([x[~np.isnan(x)] for x in measured], whis=(0, 100), **boxes)
    axis.set_yscale("log")
    _name_columns(axis, places, names)
    legend_beside(axis)
    style_axis(axis, title, y="expansion of adversarial changes")
    return figure


def time_chart(
    seconds: Mapping[str, float],
    *,
    label: str,
    title: str = "",
    published: Mapping[str, float | str] | None = None,
) -> Figure:
    """Draw times on a logarithmic scale.

    Args:
      seconds: by name, above 0.
      label: what was timed.
      title: of the figure.
      published: published times of some names; a text such as `< 0.01` is a bound, and
        is written beside its mark.
    """
    _check_any("seconds", seconds)
    figure, axis = one_axis(5.2, 0.9 + 0.32 * len(seconds))
    # Points, not bars: on a logarithmic scale the length of a bar means nothing.
    axis.plot(
        list(seconds.values()), list(seconds), "o", color=BLUE, ms=7, label="ours"
    )
    for number, (name, value) in enumerate((published or {}).items()):
        bound = float(str(value).strip("<> "))
        mark = "published" if number == 0 else None  # once in the legend
        axis.plot([bound], [name], "o", color=GREY, mfc="none", ms=7, label=mark)
        if isinstance(value, str):
            place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            axis.annotate(value, (bound, name), fontsize=7, color=GREY, **place)
    if published:
        figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    axis.set_xscale("log")
    axis.margins(x=0.08, y=0.15)  # room for the texts and the marks
    axis.invert_yaxis()
    style_axis(axis, title, x=label)
    return figure
