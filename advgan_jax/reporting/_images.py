"""How images are drawn: frames, scales, titles and colour bars."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from advgan_jax.reporting.style import RED
from advgan_jax.types import Bounds

WRONG, RIGHT = RED, "#222222"


def grid(
    lines: int,
    columns: int,
    width: float,
    height: float,
    *,
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float],
    width_ratios: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes; margins are left, right, top, bottom."""
    figure = Figure(figsize=(width, height))
    left, right, top, bottom = margins
    sides = {"left": left, "right": 1 - right, "top": 1 - top, "bottom": bottom}
    spaces = {"wspace": gaps[0], "hspace": gaps[1], "width_ratios": width_ratios}
    axes = figure.subplots(lines, columns, squeeze=False, gridspec_kw=sides | spaces)
    return figure, axes


def check_images(clean: np.ndarray, moved: np.ndarray, *columns: np.ndarray) -> None:
    """Raise `ValueError` unless images, labels and predictions agree in shape."""
    if clean.ndim != 4 or clean.shape[-1] not in (1, 3, 4) or not len(clean):
        raise ValueError(
            "`images` must have shape [N, H, W, C] with N >= 1 and C 1, 3 or 4, got "
            f"{list(clean.shape)}."
        )
    shapes = [np.shape(column) for column in columns]
    if clean.shape != moved.shape or set(shapes) != {(len(clean),)}:
        raise ValueError(
            f"`adversarial` must have the shape {list(clean.shape)} of `images`, "
            f"labels and predictions ({len(clean)},), got {list(moved.shape)} and "
            f"{', '.join(map(str, shapes))}."
        )


def draw_image(axis: Axes, image: np.ndarray, bounds: Bounds) -> AxesImage:
    """Draw a grey or RGB image."""
    low, high = bounds
    pixels = np.clip((image - low) / (high - low), 0, 1)
    return _draw(axis, pixels, "gray", (0, 1))


def draw_perturbation(axis: Axes, perturbation: np.ndarray, scale: float) -> AxesImage:
    """Draw a perturbation, red and blue if it is grey, else around mid-grey."""
    if perturbation.shape[-1] > 1:
        # Transparency, if any, is left out: its change is not a colour.
        perturbation = 0.5 + perturbation[..., :3] / (2 * scale)
    return _draw(axis, perturbation, "RdBu_r", (-scale, scale))


def _draw(axis: Axes, pixels: np.ndarray, colours: str, limits: Bounds) -> AxesImage:
    """Draw pixels within a thin frame; `colours` is the map of grey ones."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.5)
    if pixels.shape[-1] == 1:
        low, high = limits
        return axis.imshow(pixels[..., 0], cmap=colours, vmin=low, vmax=high)
    return axis.imshow(pixels)


def name_line(line: np.ndarray, name: str, fontsize: float) -> None:
    """Write the name of a row on its left."""
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=fontsize)


def write_predictions(
    line: Sequence[Axes],
    predictions: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None,
) -> None:
    """Write the predicted class above each image, in bold red if it is wrong."""
    for axis, predicted, label in zip(line, predictions, labels, strict=True):
        name = str(predicted) if class_names is None else class_names[int(predicted)]
        colour, weight = (RIGHT, "normal") if predicted == label else (WRONG, "bold")
        axis.set_title(name, fontsize=9, pad=2.5, color=colour, fontweight=weight)


def colour_bar(figure: Figure, axis: Axes, shown: AxesImage, scale: float) -> None:
    """Draw a colour bar on the right of an axis."""
    box, width = axis.get_position(), figure.get_figwidth()
    place = (box.x1 + 0.1 / width, box.y0, 0.09 / width, box.height)
    bar_axis = figure.add_axes(place, label="scale")
    bar = figure.colorbar(shown, cax=bar_axis, ticks=[-scale, 0, scale])
    bar.ax.set_yticklabels([f"-{scale:.2g}", "0", f"+{scale:.2g}"], fontsize=8)
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_linewidth(0.5)
