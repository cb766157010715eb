"""The style that all charts share, and how figures are saved.

Figures are objects; nothing is kept in the global state of matplotlib.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advgan_jax.reporting.files import Path, replacing

BLUE, RED, GREY = "#5b8db8", "#c0392b", "#666666"


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write a figure as a PNG, completely or not at all.

    Args:
      figure: what to write.
      path: the file.
      dpi: pixels per inch.
    """
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi)


def style_axis(axis: Axes, title: str, x: str = "", y: str = "") -> None:
    """Give an axis its texts and the style of all charts.

    Args:
      axis: the axis.
      title: of the axis.
      x: label of the horizontal axis.
      y: label of the vertical axis.
    """
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def one_axis(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one axis; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def legend_beside(axis: Axes) -> None:
    """Put the legend on the right of an axis."""
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
