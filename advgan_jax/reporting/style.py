"""The style of all charts, without the global state of matplotlib."""

from typing import TYPE_CHECKING, Any, Literal

from advgan_jax.files import Path
from advgan_jax.reporting.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
else:  # names for signatures; matplotlib is imported when a run draws
    Axes, Axis = "matplotlib.axes.Axes", "matplotlib.axis.Axis"
    Figure, AxesImage = "matplotlib.figure.Figure", "matplotlib.image.AxesImage"

_Layout = Literal["constrained"] | None
BLUE, RED, GREY = "#5b8db8", "#c0392b", "#666666"


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write a figure as a PNG, completely or not at all; `dpi` is pixels per inch."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi)


def style_axis(axis: Axes, title: str, x: str = "", y: str = "") -> None:
    """Apply the style of all charts to an axis; label it and its `x` and `y` sides."""
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def new_figure(width: float, height: float, layout: _Layout = None) -> Figure:
    """Return an empty figure; sizes are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def one_axis(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one axis; sizes are in inches."""
    figure = new_figure(width, height, "constrained")
    return figure, figure.subplots()


def colors() -> list[tuple[float, float, float]]:
    """Return the ten usual colours of curves, then a light one of each."""
    from matplotlib import colormaps

    every: Any = colormaps["tab20"]
    return [*every.colors[::2], *every.colors[1::2]]


def show_percent(side: Axis) -> None:
    """Label the shares on a side of an axis, `axis.xaxis` or `axis.yaxis`, in %."""
    from matplotlib.ticker import PercentFormatter

    side.set_major_formatter(PercentFormatter(1))


def legend_beside(axis: Axes) -> None:
    """Place the legend at the right of an axis."""
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
