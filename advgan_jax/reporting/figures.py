"""Pictures of attacks; figures are objects, nothing is kept in global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from advgan_jax.data import to_float
from advgan_jax.reporting.files import Path, replacing
from advgan_jax.types import Bounds

WRONG, RIGHT = "#c0392b", "#222222"
_CELL, _LEFT, _RIGHT = 0.95, 1.25, 0.65  # inches: a picture, row titles, colour bar
_COMPARED = 0.6  # inches: a picture where many attacks are shown


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Writes a PNG, whole or not at all.

    Args:
      figure: what to draw.
      path: where to.
      dpi: pixels per inch.
    """
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi)


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
    """Rows of clean images, perturbations and adversarial images, one column each.

    Above each image stands the predicted class, coloured where it is wrong, and above
    each perturbation its L2 norm. Perturbations are scaled to the largest change of a
    pixel among them, and the scale is stated: for grey images as a colour bar, for RGB
    beside the row, where mid-grey is no change.

    Args:
      images: clean, `[N, H, W, C]`, uint8 or float32 within `bounds`; C is 1, 3 or 4.
      adversarial: the same form.
      labels: int `[N]`, true classes.
      clean_predictions: int `[N]`.
      adversarial_predictions: int `[N]`.
      class_names: by class id; default the ids.
      bounds: the least and the greatest pixel value.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes do not fit, or there is no image.
      TypeError: if a dtype is wrong.
    """
    clean, moved = to_float(np.asarray(images)), to_float(np.asarray(adversarial))
    rows = (labels, clean_predictions, adversarial_predictions)
    _check_grid(clean, moved, [np.shape(row) for row in rows])
    perturbation = moved - clean
    scale = float(np.abs(perturbation).max()) or 1.0
    columns, grey = len(clean), clean.shape[-1] == 1
    right = _RIGHT if grey else 0.1
    width = _LEFT + _CELL * columns + right
    figure = Figure(figsize=(width, 3 * (_CELL + 0.22) + 0.15))
    axes = figure.subplots(
        3,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": _LEFT / width,
            "right": 1 - right / width,
            "top": 0.93,
            "bottom": 0.02,
            "wspace": 0.08,
            "hspace": 0.24,
        },
    )
    for column in range(columns):
        _show(axes[0, column], clean[column], bounds)
        shown = _show_perturbation(axes[1, column], perturbation[column], scale)
        length = f"L2 {np.linalg.norm(perturbation[column]):.2f}"
        axes[1, column].set_title(length, fontsize=7, pad=2.5, color="#777777")
        _show(axes[2, column], moved[column], bounds)
    for line, predictions in ((axes[0], clean_predictions), (axes[2], rows[2])):
        _title(line, predictions, labels, class_names)
    if grey:
        _colour_bar(figure, axes[1, -1], shown, scale)
        stated = "perturbation"
    else:
        stated = f"perturbation\n(grey: 0,\nscale ±{scale:.2g})"
    for axis, name in zip(axes[:, 0], ("clean", stated, "adversarial"), strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
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
    """What several attacks make of the same images: a line each, below the clean ones.

    Above each image stands the predicted class, coloured where it is wrong.

    Args:
      images: clean, `[N, H, W, C]`, uint8 or float32 within `bounds`; C is 1, 3 or 4.
      labels: int `[N]`, true classes.
      clean_predictions: int `[N]`.
      lines: adversarial images and their predicted classes, by the attack's name.
      class_names: by class id; default the ids.
      bounds: the least and the greatest pixel value.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes do not fit, or there is no image.
      TypeError: if a dtype is wrong.
    """
    lines = {"clean": (images, clean_predictions), **lines}
    clean = to_float(np.asarray(images))
    width, height = _COMPARED * len(clean) + 1.6, (_COMPARED + 0.2) * len(lines) + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        len(lines),
        len(clean),
        squeeze=False,
        gridspec_kw={
            "left": 1.5 / width,
            "right": 1 - 0.1 / width,
            "top": 1 - 0.25 / height,
            "bottom": 0.05 / height,
            "wspace": 0.08,
            "hspace": 0.36,
        },
    )
    for line, (name, (shown, predictions)) in zip(axes, lines.items(), strict=True):
        shown = to_float(np.asarray(shown))
        _check_grid(clean, shown, [np.shape(labels), np.shape(predictions)])
        for axis, image in zip(line, shown, strict=True):
            _show(axis, image, bounds)
        _title(line, predictions, labels, class_names)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def target_grids(
    images: np.ndarray,
    panels: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    bounds: Bounds = (0.0, 1.0),
) -> Figure:
    """What a generator adds to each image for each wanted class; panels side by side.

    Perturbations of all panels are scaled alike, to the largest change of a pixel.

    Args:
      images: clean, `[N, H, W, C]`, uint8 or float32 within `bounds`; C is 1, 3 or 4.
      panels: adversarial images `[N, T, H, W, C]` towards the first T classes, by the
        title of the panel.
      class_names: at least T.
      bounds: the least and the greatest pixel value.

    Returns:
      The figure: a line for each image, which stands at its left.

    Raises:
      ValueError: if shapes do not fit, or there is nothing to show.
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
    figure = Figure(figsize=(0.42 * sum(ratios) + 0.2, height))
    axes = figure.subplots(
        lines,
        len(ratios),
        squeeze=False,
        gridspec_kw={
            "width_ratios": ratios,
            "left": 0.01,
            "right": 0.99,
            "bottom": 0.01,
            "top": 1 - 0.45 / height,
            "wspace": 0.06,
            "hspace": 0.06,
        },
    )
    for line, image in zip(axes, clean, strict=True):
        _show(line[0], image, bounds)
    panes = np.split(axes[:, 1:], len(moved), axis=1)
    for (name, r), pane in zip(moved.items(), panes, strict=True):
        _show_panel(pane, r, scale, class_names)
        left, right = (pane[0, i].get_position() for i in (1, -1))
        text = f"{name}: added for each class (scale ±{scale:.2g})"
        middle = (left.x0 + right.x1) / 2
        figure.text(middle, 1 - 0.03 / height, text, ha="center", va="top", fontsize=9)
    return figure


def _show_panel(axes, perturbations, scale, class_names):
    for line, row in zip(axes, perturbations, strict=True):
        line[0].remove()
        for axis, perturbation in zip(line[1:], row, strict=True):
            _show_perturbation(axis, perturbation, scale)
    for axis, name in zip(axes[0, 1:], class_names, strict=False):
        axis.set_title(name, fontsize=8, pad=2.5)


def _check_grid(clean, moved, shapes):
    if clean.ndim != 4 or clean.shape[-1] not in (1, 3, 4) or not len(clean):
        raise ValueError(
            "`images` must have shape [N, H, W, C] with N >= 1 and C 1, 3 or 4, got "
            f"{list(clean.shape)}."
        )
    if clean.shape != moved.shape or set(shapes) != {(len(clean),)}:
        raise ValueError(
            f"`adversarial` must have the shape {list(clean.shape)} of `images`, "
            f"labels and predictions ({len(clean)},), got {list(moved.shape)} and "
            f"{', '.join(map(str, shapes))}."
        )


def _show(axis, image, bounds):
    _bare(axis)
    low, high = bounds
    if image.shape[-1] == 1:
        axis.imshow(image[..., 0], cmap="gray", vmin=low, vmax=high)
    else:
        axis.imshow(np.clip((image - low) / (high - low), 0, 1))


def _show_perturbation(axis, perturbation, scale):
    _bare(axis)
    if perturbation.shape[-1] == 1:
        return axis.imshow(perturbation[..., 0], cmap="RdBu_r", vmin=-scale, vmax=scale)
    # Transparency, if any, is left out: a change of it is no colour.
    return axis.imshow(0.5 + perturbation[..., :3] / (2 * scale))


def _bare(axis):
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.5)


def _title(line, predictions, labels, class_names):
    for axis, predicted, label in zip(line, predictions, labels, strict=True):
        wrong = predicted != label
        axis.set_title(
            str(predicted) if class_names is None else class_names[predicted],
            fontsize=9,
            pad=2.5,
            color=WRONG if wrong else RIGHT,
            fontweight="bold" if wrong else "normal",
        )


def _colour_bar(figure, axis, shown, scale):
    box = axis.get_position()
    width = figure.get_figwidth()
    bar_axis = figure.add_axes(
        (box.x1 + 0.1 / width, box.y0, 0.09 / width, box.height), label="scale"
    )
    bar = figure.colorbar(shown, cax=bar_axis, ticks=[-scale, 0, scale])
    bar.ax.set_yticklabels([f"-{scale:.2g}", "0", f"+{scale:.2g}"], fontsize=8)
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_linewidth(0.5)
