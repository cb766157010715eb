"""Grids of clean images, adversarial images and perturbations.

Each function returns a new figure. It raises `ValueError` if shapes disagree or there
is nothing to draw, and `TypeError` for a wrong dtype. `images` are `[N, H, W, C]` with
C 1, 3 or 4, uint8 or float32 within `bounds`, and `adversarial` alike; `labels` and
predictions are int `[N]`. `class_names` are by class id; their default is the id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advgan_jax.data import to_float
from advgan_jax.reporting.style import RED, Axes, AxesImage, Figure, new_figure
from advgan_jax.types import Bounds

WRONG, RIGHT = RED, "#222222"
_ROW_NAME = {"rotation": 0, "ha": "right", "va": "center"}
_CELL, _LEFT, _RIGHT = 0.95, 1.25, 0.65  # inches: an image, row titles, colour bar
_SMALL_CELL = 0.6  # inches: an image in `comparison_grid`


def attack_grid(
    images: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    clean_predictions: np.ndarray,
    adversarial_predictions: np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """Draw clean images, perturbations and adversarial images, a column for each image.

    The title of an image is the predicted class, in red if it is wrong; the title of a
    perturbation is its L2 norm. All perturbations share one scale, the largest change
    of a pixel. Grey images have a colour bar. For RGB images the scale is written
    next to the row, and mid-grey means no change.
    """
    clean, moved = (to_float(np.asarray(x), bounds) for x in (images, adversarial))
    predictions = (clean_predictions, adversarial_predictions)
    _check_images(clean, moved, labels, *predictions)
    perturbation = moved - clean
    scale = float(np.abs(perturbation).max()) or 1.0
    columns, grey = len(clean), clean.shape[-1] == 1
    right = _RIGHT if grey else 0.1
    width, height = _LEFT + _CELL * columns + right, 3 * (_CELL + 0.22) + 0.15
    margins = (_LEFT / width, right / width, 0.07, 0.02)
    figure, axes = _grid((3, columns), (width, height), margins, (0.08, 0.24))
    for column in range(columns):
        _draw_image(axes[0, column], clean[column], bounds)
        shown = _draw_perturbation(axes[1, column], perturbation[column], scale)
        norm = f"L2 {np.linalg.norm(perturbation[column]):.2f}"
        axes[1, column].set_title(norm, fontsize=7, pad=2.5, color="#777777")
        _draw_image(axes[2, column], moved[column], bounds)
    for line, classes in zip(axes[::2], predictions, strict=True):
        _write_predictions(line, classes, labels, class_names)
    if grey:
        _colour_bar(figure, axes[1, -1], shown, scale)
    scaled = "perturbation" + ("" if grey else f"\n(grey: 0,\nscale ±{scale:.2g})")
    for line, name in zip(axes, ("clean", scaled, "adversarial"), strict=True):
        line[0].set_ylabel(name, fontsize=9, **_ROW_NAME)
    return figure


def comparison_grid(
    images: np.ndarray,
    labels: np.ndarray,
    clean_predictions: np.ndarray,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    class_names: Sequence[str] | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """Draw the results of several attacks on the same images, a row for each attack.

    The first row shows the clean images. The title of an image is the predicted class,
    in red if it is wrong. `lines` contains the adversarial images and their predicted
    classes by the attack's name.
    """
    lines = {"clean": (images, clean_predictions), **lines}
    clean = to_float(np.asarray(images), bounds)
    width = _SMALL_CELL * len(clean) + 1.6
    height = (_SMALL_CELL + 0.2) * len(lines) + 0.1
    shape = (len(lines), len(clean))
    margins = (1.5 / width, 0.1 / width, 0.25 / height, 0.05 / height)
    figure, axes = _grid(shape, (width, height), margins, (0.08, 0.36))
    for line, (name, (shown, predictions)) in zip(axes, lines.items(), strict=True):
        shown = to_float(np.asarray(shown), bounds)
        _check_images(clean, shown, labels, predictions)
        for axis, image in zip(line, shown, strict=True):
            _draw_image(axis, image, bounds)
        _write_predictions(line, predictions, labels, class_names)
        line[0].set_ylabel(name, fontsize=8, **_ROW_NAME)
    return figure


def target_grids(
    images: np.ndarray,
    panels: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """Draw the perturbations of generators towards each class, in panels side by side.

    Each row begins with the clean image. `panels` contains, by title, adversarial
    images `[N, T, H, W, C]` towards the classes 0 to T - 1. All perturbations share one
    scale, the largest change of a pixel.
    """
    clean = to_float(np.asarray(images), bounds)
    shapes = {np.shape(panel) for panel in panels.values()}
    wanted = (len(clean), *next(iter(shapes), (0, 0))[1:2], *clean.shape[1:])
    if clean.ndim != 4 or not len(clean) or shapes != {wanted}:
        raise ValueError(
            "`panels` must be adversarial images [N, T, H, W, C] of the N clean ones, "
            f"all of one shape, got {sorted(shapes)} for {list(clean.shape)}."
        )
    moved = {name: panel - clean[:, None] for name, panel in panels.items()}
    scale = max(float(np.abs(r).max()) for r in moved.values()) or 1.0
    lines, num_targets = wanted[:2]
    # A narrow, empty column separates the panels.
    ratios = [1, *([0.35] + [1] * num_targets) * len(moved)]
    width, height = 0.42 * sum(ratios) + 0.2, 0.44 * lines + 0.5
    shape = (lines, len(ratios))
    margins = (0.01, 0.01, 0.45 / height, 0.01)
    figure, axes = _grid(shape, (width, height), margins, (0.06, 0.06), ratios)
    for line, image in zip(axes, clean, strict=True):
        _draw_image(line[0], image, bounds)
    panes = np.split(axes[:, 1:], len(moved), axis=1)
    for (name, perturbations), pane in zip(moved.items(), panes, strict=True):
        for line, row in zip(pane, perturbations, strict=True):
            line[0].remove()
            for axis, perturbation in zip(line[1:], row, strict=True):
                _draw_perturbation(axis, perturbation, scale)
        for axis, class_name in zip(pane[0, 1:], class_names, strict=False):
            axis.set_title(class_name, fontsize=8, pad=2.5)
        left, right = (pane[0, i].get_position() for i in (1, -1))
        text = f"{name}: added for each class (scale ±{scale:.2g})"
        middle = (left.x0 + right.x1) / 2
        figure.text(middle, 1 - 0.03 / height, text, ha="center", va="top", fontsize=9)
    return figure


def direction_grid(
    images: np.ndarray,
    blocks: Mapping[str, np.ndarray],
    *,
    title: str = "",
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """Draw the images with the largest projections on directions, a row for each.

    `blocks` contains the indices of the images by title, int `[D, k]`, all of one
    shape. The blocks are drawn side by side.
    """
    shapes = {np.shape(rows) for rows in blocks.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            "`blocks` must have at least one entry, all int [D, k] of one shape, got "
            f"shapes {sorted(shapes)}."
        )
    lines, columns = shapes.pop()
    size = (0.45 * columns * len(blocks) + 0.3, 0.45 * lines + 0.7)
    figure = new_figure(*size, "constrained")
    figure.suptitle(title, fontsize=9)
    parts: Any = figure.subfigures(1, len(blocks), squeeze=False, wspace=0.05)
    for part, (name, rows) in zip(parts[0], blocks.items(), strict=True):
        part.suptitle(name, fontsize=8)
        axes = part.subplots(lines, columns, squeeze=False)
        for axis, row in zip(axes.ravel(), rows.ravel(), strict=True):
            _draw_image(axis, to_float(np.asarray(images[row]), bounds), bounds)
    return figure


def _grid(
    shape: tuple[int, int],
    size: tuple[float, float],
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float],
    width_ratios: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes; the margins are left, right, top and bottom."""
    figure = new_figure(*size)
    left, right, top, bottom = margins
    sides = {"left": left, "right": 1 - right, "top": 1 - top, "bottom": bottom}
    spaces = {"wspace": gaps[0], "hspace": gaps[1], "width_ratios": width_ratios}
    axes = figure.subplots(*shape, squeeze=False, gridspec_kw=sides | spaces)
    return figure, axes


def _check_images(clean: np.ndarray, moved: np.ndarray, *columns: np.ndarray) -> None:
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


def _draw_image(axis: Axes, image: np.ndarray, bounds: Bounds) -> AxesImage:
    """Draw a grey or RGB image."""
    low, high = bounds
    pixels = np.clip((image - low) / (high - low), 0, 1)
    return _draw(axis, pixels, "gray", (0, 1))


def _draw_perturbation(axis: Axes, perturbation: np.ndarray, scale: float) -> AxesImage:
    """Draw a perturbation: of a grey image in red and blue, else around mid-grey."""
    if perturbation.shape[-1] > 1:
        # Ignore transparency: its change is not a colour.
        perturbation = 0.5 + perturbation[..., :3] / (2 * scale)
    return _draw(axis, perturbation, "RdBu_r", (-scale, scale))


def _draw(axis: Axes, pixels: np.ndarray, colours: str, limits: Bounds) -> AxesImage:
    """Draw pixels within a thin frame; `colours` is the colour map of grey ones."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.5)
    if pixels.shape[-1] == 1:
        low, high = limits
        return axis.imshow(pixels[..., 0], cmap=colours, vmin=low, vmax=high)
    return axis.imshow(pixels)


def _write_predictions(
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


def _colour_bar(figure: Figure, axis: Axes, shown: AxesImage, scale: float) -> None:
    """Draw a colour bar on the right of an axis."""
    box, width = axis.get_position(), figure.get_figwidth()
    place = (box.x1 + 0.1 / width, box.y0, 0.09 / width, box.height)
    bar_axis = figure.add_axes(place, label="scale")
    bar = figure.colorbar(shown, cax=bar_axis, ticks=[-scale, 0, scale])
    bar.ax.set_yticklabels([f"-{scale:.2g}", "0", f"+{scale:.2g}"], fontsize=8)
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_linewidth(0.5)
