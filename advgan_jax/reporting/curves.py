"""Curves: metrics of a training, and accuracy against the effort of an attack.

Each function returns a new figure, and raises `ValueError` if there is nothing to draw.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from advgan_jax.reporting.style import GREY, legend_beside, one_axis, style_axis

# Metrics that are shares; all others are losses, each drawn on its own scale.
_SHARES = ("rate", "accuracy")
_COUNTS = ("step", "queries")  # measure progress and are not drawn
_MARKERS = "osD^vPX*<>"
_Curves = Mapping[str, Sequence[tuple[float, float]]]


def training_curves(
    metrics_rows: Sequence[Mapping[str, Any]], *, switches: Sequence[int] = ()
) -> Figure:
    """Draw the metrics of a training: a panel for each loss, one for all shares.

    Args:
      metrics_rows: from `read_metrics`, `{"step": ..., name: value}`; None is skipped.
      switches: steps after which another phase of the training began; each is a dotted
        line.
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
            known = [row for row in metrics_rows if row.get(name) is not None]
            steps, values = [r["step"] for r in known], [r[name] for r in known]
            marker = "." if len(known) < 40 else ""
            axis.plot(steps, values, marker=marker, lw=1.4, label=name)
        for switch in switches:
            axis.axvline(switch, color=GREY, lw=1, ls=":")
        title = panel[0] if len(panel) == 1 else "share of images"
        style_axis(axis, title, x="step")
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        if panel is shares:
            axis.set_ylim(-0.03, 1.03)
            axis.yaxis.set_major_formatter(PercentFormatter(1))
        if len(panel) > 1:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure


def robustness_curve(curves: _Curves, *, norm: str = "linf", title: str = "") -> Figure:
    """Draw the accuracy under attack against the size of the perturbation.

    Args:
      curves: the points `(epsilon, accuracy)` of each attack, in any order.
      norm: of epsilon.
      title: of the figure.
    """
    norm = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}.get(norm, norm)
    figure = _share_curves(curves, title, f"epsilon ({norm})", "accuracy under attack")
    figure.axes[0].set_xlim(left=0)
    return figure


def query_curve(curves: _Curves, *, title: str = "") -> Figure:
    """Draw shares of images against the number of queries to a black box.

    Args:
      curves: the points `(queries, share)` of each name, in any order.
      title: of the figure.
    """
    return _share_curves(curves, title, "queries", "share of images")


def _share_curves(curves: _Curves, title: str, x: str, y: str) -> Figure:
    """Draw curves of shares on one axis."""
    if not curves or not all(curves.values()):
        raise ValueError("`curves` must have at least one point each, got none.")
    figure, axis = one_axis(5.2, 3.4)
    for (name, points), marker in zip(curves.items(), cycle(_MARKERS), strict=False):
        sizes, shares = zip(*sorted(points), strict=True)
        axis.plot(sizes, shares, marker=marker, ms=4, lw=1.4, label=name, clip_on=False)
    style_axis(axis, title, x, y)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    legend_beside(axis)
    return figure
