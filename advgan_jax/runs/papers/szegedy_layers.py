"""Measure layers of Szegedy et al.'s models, and draw what was measured.

Each function returns lines of a table and saves figures.
"""

from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from advgan_jax.analysis import (
    compare_directions,
    hidden_features,
    layer_values,
    measured_expansions,
    upper_bounds,
)
from advgan_jax.data import to_float
from advgan_jax.reporting import bound_chart, direction_grid, save_figure
from advgan_jax.runs.papers.rows import Entry
from advgan_jax.runs.papers.szegedy_models import (
    DEPENDS_ON,
    SzegedyArtifacts,
    published_title,
)

_SHOWN = 6  # directions of each kind in the figure of units


def expansions(artifacts: SzegedyArtifacts, entry: Entry) -> list[dict[str, Any]]:
    """Measure each layer's bound and expansion, and last those of the whole model."""
    module, variables = artifacts.trained(entry.on)
    config, images = artifacts.run.config, artifacts.images(entry.images).images
    moved = cast(np.ndarray, artifacts.attacked(entry.on, entry.images).examples)
    bounds = upper_bounds(module, variables, images.shape[1:])
    measured = measured_expansions(module, variables, images, moved)
    names = ("layer", "kind", "size", "stride", "upper bound", "upper bound, circular")
    layers = bounds.layers
    lines: list[dict[str, Any]] = [dict(zip(names, one, strict=True)) for one in layers]
    lines.append({"layer": "network", "upper bound": bounds.network})
    for line in lines:
        seen = measured[line["layer"]]
        seen = seen[~np.isnan(seen)]  # NaN where the image was not moved
        line["lower bound"] = float(seen.max()) if seen.size else None
        line["mean expansion"] = float(seen.mean()) if seen.size else None
    figure = bound_chart(
        [line["layer"] for line in lines],
        [line["upper bound"] for line in lines],
        [measured[line["layer"]] for line in lines],
        title=f"{published_title(config, entry.on)}, {config.dataset}",
    )
    _save(artifacts, figure, f"spectral-{entry.on.title}")
    return lines


def directions(artifacts: SzegedyArtifacts, entry: Entry) -> list[dict[str, Any]]:
    """Compare units with random directions before each layer but the first, in bits."""
    module, variables = artifacts.trained(entry.on)
    config, dataset = artifacts.run.config, artifacts.run.dataset
    images, lines = to_float(dataset.test.images), []
    # A layer's inputs are the units of the layer before it.
    _, *after = layer_values(module, variables, images[:1])
    for layer in after:
        found = compare_directions(
            hidden_features(module, variables, images, layer),
            dataset.test.labels,
            num_classes=dataset.num_classes,
            seed=config.seed,
            **{name: config.units[name] for name in DEPENDS_ON["units"]},
        )
        units, random = found.unit_entropy.mean(), found.random_entropy.mean()
        line = {
            "units before": layer,
            "directions": len(found.units),
            "images each": found.unit_images.shape[1],
            "entropy, units": float(units),
            "entropy, random": float(random),
            "difference": float(units - random),
            "p-value": found.p_value,
        }
        lines.append(line)
        shown = {
            "single units": found.unit_images[:_SHOWN],
            "random directions": found.random_images[:_SHOWN],
        }
        title = f"{published_title(config, entry.on)}, units before {layer}"
        grid = direction_grid(dataset.test.images, shown, title=title)
        _save(artifacts, grid, f"units-{entry.on.title}-{layer.replace('/', '_')}")
    return lines


def _save(artifacts: SzegedyArtifacts, figure: Figure, name: str) -> None:
    save_figure(figure, artifacts.run.workdir / "figures" / f"{name}.png")
