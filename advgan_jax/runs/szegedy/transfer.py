"""Tables 2 to 4: images made for one net, shown to the others."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from advgan_jax.data import Split
from advgan_jax.evaluation import (
    add_noise,
    evaluate_clean,
    rescale_perturbations,
    transfer_matrix,
)
from advgan_jax.reporting import heatmap, matrices
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import crafted, nets, output, paper
from advgan_jax.runs.szegedy.nets import Net, trained_net

# Noise and amplified perturbations are not clipped; this only has to hold them all.
_WIDE = (-100.0, 100.0)


def cross_model(run: Run) -> list[dict[str, Any]]:
    """Table 2: images made for each of `config.models`, shown to all of them.

    Args:
      run: the run.

    Returns:
      A row of `results.json` for each net, without attack.
    """
    columns = [trained_net(run, name) for name in run.config.models]
    images = crafted.images_of(run, "train")
    sources, sizes = _sources(run, columns, "train")
    sources |= _noisy(run, images, run.config.noise)
    sizes |= {_noise_name(size): size for size in run.config.noise}
    _write(run, "cross-model", columns, images, sources, sizes, paper.CROSS_MODEL)
    return [output.clean_row(run, net) for net in columns]


def cross_training_set(run: Run) -> list[dict[str, Any]]:
    """Tables 3 and 4: nets that have seen disjoint halves of the training set.

    The images are test images: none of the nets has seen them. Perturbations are used
    as they are, and amplified to an RMS of `config.amplified_to`.

    Args:
      run: the run.

    Returns:
      A row of `results.json` for each net, without attack.
    """
    columns = [trained_net(run, name) for name in run.config.half_models]
    images, large = crafted.images_of(run, "test"), run.config.amplified_to
    sources, sizes = _sources(run, columns, "test")
    _write_halves(run, columns, sizes)
    small = _typical(sizes)
    rows = dict(sources) | _noisy(run, images, small)
    for title, moved in sources.items():
        rows[f"{title} to {large:g}"] = rescale_perturbations(
            images.images, moved, large
        )
    rows |= _noisy(run, images, [large])
    sizes |= {f"{title} to {large:g}": large for title in sources}
    sizes |= {_noise_name(size): size for size in (*small, large)}
    known = paper.CROSS_TRAINING_SET
    _write(run, "cross-training-set", columns, images, rows, sizes, known)
    return [output.clean_row(run, net) for net in columns]


def _sources(
    run: Run, columns: list[Net], where: str
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The images made for each net, and their mean distortion."""
    found = {net.title: crafted.adversarial(run, net, where) for net in columns}
    images = {title: evaluation.examples for title, evaluation in found.items()}
    return images, {t: crafted.mean_distortion(e) for t, e in found.items()}


def _typical(sizes: Mapping[str, float]) -> list[float]:
    """The mean distortion with two decimals; none where no attack has succeeded."""
    known = [size for size in sizes.values() if np.isfinite(size)]
    if not known:
        return []
    mean = float(np.mean(known))
    return [round(mean, 2) or float(f"{mean:.1g}")]


def _noise_name(size: float) -> str:
    return f"Gaussian {size:g}"


def _noisy(run: Run, images: Split, sizes) -> dict[str, np.ndarray]:
    seed = run.config.seed
    return {_noise_name(s): add_noise(images.images, s, seed=seed) for s in sizes}


def _write(
    run: Run,
    name: str,
    columns: list[Net],
    images: Split,
    rows: Mapping[str, np.ndarray],
    sizes: Mapping[str, float],
    known: Mapping[tuple[str, str], float],
) -> None:
    """The matrix of errors as table and heatmap, the clean images in its last row."""
    rows = {**rows, "clean": images.images}
    models = {net.title: net.logits_fn for net in columns}
    matrix = transfer_matrix(models, rows, images.labels, bounds=_WIDE)
    records = []
    for row, line in zip(rows, matrix, strict=True):
        cells: dict[str, Any] = {"made for": row}
        for column, error in zip(models, line, strict=True):
            cells |= output.beside(run, column, float(error), known.get((row, column)))
        records.append({**cells, "av. distortion": sizes.get(row, 0.0)})
    ours, published = matrices(records, list(models))
    figure = heatmap(
        ours,
        list(rows),
        list(models),
        f"errors, {run.config.dataset}, {run.config.attack}",
        published=published,
        row_label="made for",
        column_label="shown to",
    )
    output.write(run, name, records, figure)


def _write_halves(run: Run, columns: list[Net], sizes: Mapping[str, float]) -> None:
    """Table 3: errors of each net on both halves and on the test set."""
    splits = dict(zip(("error P1", "error P2"), nets.halves(run), strict=True))
    splits["test error"] = run.dataset.test
    records = []
    for net in columns:
        *known, distortion = paper.HALVES.get(net.title, (None,) * 4)
        cells: dict[str, Any] = {"model": net.title}
        for (name, split), printed in zip(splits.items(), known, strict=True):
            found = evaluate_clean(net.logits_fn, split.images, split.labels)
            error = 1 - found.clean_accuracy
            cells |= output.beside(run, name, error, printed)
        least = output.beside(run, "av. distortion", sizes[net.title], distortion)
        records.append({**cells, **least})
    output.write(run, "halves", records, None)
