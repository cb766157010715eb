"""Grids of clean images, adversarial images and perturbations.

Each function returns a new figure. It raises `ValueError` if shapes disagree or there
is nothing to draw, and `TypeError` for a wrong dtype.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from advgan_jax.data import to_float
from advgan_jax.reporting._images import (
    check_images,
    colour_bar,
    draw_image,
    draw_perturbation,
    grid,
    name_line,
    write_predictions,
)
from advgan_jax.types import Bounds

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

    The title of an image is the predicted class, in red if it is wrong; that of a
    perturbation is its L2 norm. All perturbations share one scale, the largest change
    of a pixel among them. A colour bar shows it for grey images; for RGB it is written
    beside the row, and mid-grey means no change.

    Args:
      images: clean, `[N, H, W, C]`, uint8 or float32 within `bounds`; C is 1, 3 or 4.
      adversarial: the same form.
      labels: int `[N]`, true classes.
      clean_predictions: int `[N]`.
      adversarial_predictions: int `[N]`.
      class_names: by class id; default the ids.
      bounds: the least and the greatest pixel value.
    """
    clean, moved = to_float(np.asarray(images)), to_float(np.asarray(adversarial))
    check_images(clean, moved, labels, clean_predictions, adversarial_predictions)
    perturbation = moved - clean
    scale = float(np.abs(perturbation).max()) or 1.0
    columns, grey = len(clean), clean.shape[-1] == 1
    right = _RIGHT if grey else 0.1
    width, height = _LEFT + _CELL * columns + right, 3 * (_CELL + 0.22) + 0.15
    figure, axes = grid(
        *(3, columns, width, height),
        margins=(_LEFT / width, right / width, 0.07, 0.02),
        gaps=(0.08, 0.24),
    )
    for column in range(columns):
        draw_image(axes[0, column], clean[column], bounds)
        shown = draw_perturbation(axes[1, column], perturbation[column], scale)
        norm = f"L2 {np.linalg.norm(perturbation[column]):.2f}"
        axes[1, column].set_title(norm, fontsize=7, pad=2.5, color="#777777")
        draw_image(axes[2, column], moved[column], bounds)
    write_predictions(axes[0], clean_predictions, labels, class_names)
    write_predictions(axes[2], adversarial_predictions, labels, class_names)
    if grey:
        colour_bar(figure, axes[1, -1], shown, scale)
    scaled = "perturbation" + ("" if grey else f"\n(grey: 0,\nscale ±{scale:.2g})")
    for line, name in zip(axes, ("clean", scaled, "adversarial"), strict=True):
        name_line(line, name, 9)
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

    The title of an image is the predicted class, in red if it is wrong. `lines` holds
    the adversarial images and their predicted classes by the attack's name. The other
    arguments and the errors are those of `attack_grid`.

    Returns:
      The figure; its first row shows the clean images.
    """
    lines = {"clean": (images, clean_predictions), **lines}
    clean = to_float(np.asarray(images))
    width = _SMALL_CELL * len(clean) + 1.6
    height = (_SMALL_CELL + 0.2) * len(lines) + 0.1
    figure, axes = grid(
        *(len(lines), len(clean), width, height),
        margins=(1.5 / width, 0.1 / width, 0.25 / height, 0.05 / height),
        gaps=(0.08, 0.36),
    )
    for line, (name, (shown, predictions)) in zip(axes, lines.items(), strict=True):
        shown = to_float(np.asarray(shown))
        check_images(clean, shown, labels, predictions)
        for axis, image in zip(line, shown, strict=True):
            draw_image(axis, image, bounds)
        write_predictions(line, predictions, labels, class_names)
        name_line(line, name, 8)
    return figure


def target_grids(
    images: np.ndarray,
    panels: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """Draw the perturbations of generators towards each class, in panels side by side.

    All perturbations share one scale, the largest change of a pixel among them.

    Args:
      images: see `attack_grid`.
      panels: adversarial images `[N, T, H, W, C]` towards classes 0 to T - 1, by title.
      class_names: at least T.
      bounds: the least and the greatest pixel value.

    Returns:
      The figure: a row for each image, with the clean image on the left.
    """
    clean = to_float(np.asarray(images))
    shapes = {np.shape(panel) for panel in panels.values()}
    wanted = (len(clean), *next(iter(shapes), (0, 0))[1:2], *clean.shape[1:])
    if clean.ndim != 4 or not len(clean) or shapes != {wanted}:
        raise ValueError(
            "`panels` must be adversarial images [N, T, H, W, C] of the N clean ones, "
            f"all alike, got shapes {sorted(shapes)} for {list(clean.shape)}."
        )
    moved = {name: panel - clean[:, None] for name, panel in panels.items()}
    scale = max(float(np.abs(r).max()) for r in moved.values()) or 1.0
    lines, num_targets = wanted[:2]
    # One narrow, empty column stands before each panel.
    ratios = [1, *([0.35] + [1] * num_targets) * len(moved)]
    height = 0.44 * lines + 0.5
    figure, axes = grid(
        *(lines, len(ratios), 0.42 * sum(ratios) + 0.2, height),
        margins=(0.01, 0.01, 0.45 / height, 0.01),
        gaps=(0.06, 0.06),
        width_ratios=ratios,
    )
    for line, image in zip(axes, clean, strict=True):
        draw_image(line[0], image, bounds)
    panes = np.split(axes[:, 1:], len(moved), axis=1)
    for (name, perturbations), pane in zip(moved.items(), panes, strict=True):
        for line, row in zip(pane, perturbations, strict=True):
            line[0].remove()
            for axis, perturbation in zip(line[1:], row, strict=True):
                draw_perturbation(axis, perturbation, scale)
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

    Args:
      images: `[N, H, W, C]`, see `attack_grid`.
      blocks: indices of the images, int `[D, k]`, all of one shape, by title.
      title: of the figure.
      bounds: the least and the greatest pixel value.

    Returns:
      The figure, its blocks side by side.
    """
    shapes = {np.shape(rows) for rows in blocks.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            "`blocks` must have at least one entry, all int [D, k] of one shape, got "
            f"shapes {sorted(shapes)}."
        )
    lines, columns = shapes.pop()
    size = (0.45 * columns * len(blocks) + 0.3, 0.45 * lines + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    parts: Any = figure.subfigures(1, len(blocks), squeeze=False, wspace=0.05)
    for part, (name, rows) in zip(parts[0], blocks.items(), strict=True):
        part.suptitle(name, fontsize=8)
        axes = part.subplots(lines, columns, squeeze=False)
        for axis, row in zip(axes.ravel(), rows.ravel(), strict=True):
            draw_image(axis, to_float(np.asarray(images[row])), bounds)
    return figure
