"""Figures of single studies: bounds of layers, images of directions, bars."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from advgan_jax.data import to_float
from advgan_jax.reporting.charts import style_axis
from advgan_jax.types import Bounds


def bound_chart(
    names: Sequence[str],
    bounds: Sequence[float],
    measured: Sequence[np.ndarray],
    *,
    title: str = "",
) -> Figure:
    """Upper bounds of layers above what was measured of them, on a logarithmic scale.

    Args:
      names: of the layers.
      bounds: upper bound of each.
      measured: expansions of each, one number for each image; NaN is left out.
      title: of the figure.

    Returns:
      The figure: a bar for each bound, a box for what was measured.

    Raises:
      ValueError: if there is not one of each for each layer, or none.
    """
    if not names or not len(names) == len(bounds) == len(measured):
        raise ValueError(
            "`names`, `bounds` and `measured` must be as many, at least one, got "
            f"{len(names)}, {len(bounds)} and {len(measured)}."
        )
    figure = Figure(figsize=(2 + 0.55 * len(names), 3.6), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(names))
    width = {"widths": 0.5, "positions": places, "manage_ticks": False}
    axis.hlines(bounds, places - 0.35, places + 0.35, "#c0392b", label="upper bound")
    axis.boxplot([x[~np.isnan(x)] for x in measured], whis=(0, 100), **width)
    axis.set_yscale("log")
    axis.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_ylabel("expansion of adversarial changes", fontsize=9)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    style_axis(axis, title)
    return figure


def direction_grid(
    images: np.ndarray,
    blocks: Mapping[str, np.ndarray],
    *,
    title: str = "",
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """The images that excite directions most, a line for each, in blocks side by side.

    Args:
      images: `[N, H, W, C]`, uint8 or float32 within `bounds`; C is 1, 3 or 4.
      blocks: by name, which images, int `[D, k]`; all of one shape.
      title: of the figure.
      bounds: the least and the greatest pixel value.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no block, or their shapes differ.
    """
    shapes = {np.shape(rows) for rows in blocks.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            "`blocks` must have at least one entry, all int [D, k] of one shape, got "
            f"shapes {sorted(shapes)}."
        )
    lines, columns = shapes.pop()
    low, high = bounds
    size = (0.45 * columns * len(blocks) + 0.3, 0.45 * lines + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    for part, (name, rows) in zip(
        np.atleast_1d(figure.subfigures(1, len(blocks))), blocks.items(), strict=True
    ):
        part.suptitle(name, fontsize=8)
        axes = part.subplots(lines, columns, squeeze=False)
        for axis, row in zip(axes.ravel(), rows.ravel(), strict=True):
            pixels = (to_float(np.asarray(images[row])) - low) / (high - low)
            grey = pixels.shape[-1] == 1
            axis.imshow(pixels[..., 0] if grey else pixels, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
    return figure


def bar_chart(
    shares: Mapping[str, float],
    *,
    label: str,
    title: str = "",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Shares side by side, with lines at what others found.

    Args:
      shares: by name, in [0, 1].
      label: what they are shares of.
      title: of the figure.
      references: shares to compare with, by name.

    Returns:
      The figure.

    Raises:
      ValueError: if there is nothing to draw.
    """
    if not shares:
        raise ValueError("`shares` must have at least one entry, got none.")
    figure = Figure(figsize=(5.2, 0.9 + 0.32 * len(shares)), layout="constrained")
    axis = figure.subplots()
    drawn = axis.barh(list(shares), list(shares.values()), color="#5b8db8", height=0.6)
    axis.bar_label(drawn, [f"{100 * v:.2f} %" for v in shares.values()], fontsize=8)
    lines = zip((references or {}).items(), cycle(("-", ":", "--", "-.")), strict=False)
    for (name, value), style in lines:
        axis.axvline(value, color="#c0392b", linewidth=1, linestyle=style, label=name)
    if references:
        axis.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.invert_yaxis()
    axis.set_xlim(0, 1.2 * max(*shares.values(), 1e-9, *(references or {}).values()))
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel(label, fontsize=9)
    style_axis(axis, title)
    return figure


def time_chart(
    seconds: Mapping[str, float],
    *,
    label: str,
    title: str = "",
    published: Mapping[str, float | str] | None = None,
) -> Figure:
    """Times side by side on a logarithmic scale.

    Args:
      seconds: by name, above 0.
      label: what took so long.
      title: of the figure.
      published: what others printed for some of the names; a text is a bound, like
        `< 0.01`, and stands beside its mark.

    Returns:
      The figure.

    Raises:
      ValueError: if there is nothing to draw.
    """
    if not seconds:
        raise ValueError("`seconds` must have at least one entry, got none.")
    figure = Figure(figsize=(5.2, 0.9 + 0.32 * len(seconds)), layout="constrained")
    axis = figure.subplots()
    # Points, not bars: on such a scale a bar has no length of its own.
    axis.plot(
        list(seconds.values()), list(seconds), "o", color="#5b8db8", ms=7, label="ours"
    )
    for number, (name, value) in enumerate((published or {}).items()):
        bound = float(str(value).strip("<> "))
        mark = {"label": "the paper's"} if number == 0 else {}
        axis.plot([bound], [name], "o", color="#666666", mfc="none", ms=7, **mark)
        if isinstance(value, str):
            shift = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            axis.annotate(value, (bound, name), fontsize=7, color="#666666", **shift)
    if published:
        figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    axis.set_xscale("log")
    axis.margins(x=0.08)  # room for the texts
    axis.invert_yaxis()
    axis.set_xlabel(label, fontsize=9)
    style_axis(axis, title)
    return figure
