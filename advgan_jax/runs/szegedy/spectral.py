"""Table 5: how far each layer may stretch a perturbation, and how far it does."""

from typing import Any

import numpy as np

from advgan_jax.analysis import measured_expansions, upper_bounds
from advgan_jax.reporting import bound_chart
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import crafted, output
from advgan_jax.runs.szegedy.nets import Net, trained_net

NETWORK = "network"


def study(run: Run) -> list[dict[str, Any]]:
    """Bounds the layers of `config.spectral_models` and measures their expansions.

    The perturbations are those of the configured attack on test images. (The paper
    prints such a table for AlexNet alone, so there is no number of its to compare.)

    Args:
      run: the run.

    Returns:
      A row of `results.json` for each net, without attack.
    """
    rows, records = [], []
    for name in run.config.spectral_models:
        net = trained_net(run, name)
        lines = bounds_and_expansions(run, net)
        figure = bound_chart(
            [line["layer"] for line, _ in lines],
            [line["upper bound"] for line, _ in lines],
            [ratios for _, ratios in lines],
            title=f"{net.title}, {run.config.dataset}",
        )
        records += [line for line, _ in lines]
        output.write(run, f"spectral-{name}", [line for line, _ in lines], figure)
        rows.append(output.clean_row(run, net))
    output.write(run, "spectral", records, None)
    return rows


def bounds_and_expansions(
    run: Run, net: Net
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Each layer's bound beside what was measured, last the whole network's.

    Args:
      run: the run.
      net: a trained net.

    Returns:
      For each layer its line of the table and the expansions of all images.
    """
    images = crafted.images_of(run, "test").images
    moved = crafted.adversarial(run, net, "test").examples
    bounds = upper_bounds(net.model, net.variables, images.shape[1:])
    measured = measured_expansions(net.model, net.variables, images, moved)
    found = []
    for layer in bounds.layers:
        line = {
            "model": net.title,
            "layer": layer.name,
            "kind": layer.kind,
            "size": layer.size,
            "stride": layer.stride,
            "upper bound": layer.bound,
            "upper bound, circular": layer.circular,
        }
        found.append((line | _summary(measured[layer.name]), measured[layer.name]))
    line = {"model": net.title, "layer": NETWORK, "upper bound": bounds.network}
    ratios = measured[NETWORK]
    return [*found, (line | _summary(ratios), ratios)]


def _summary(ratios: np.ndarray) -> dict[str, float]:
    """The largest and the mean expansion; NaN only if no image was moved."""
    seen = ratios[~np.isnan(ratios)]
    if not seen.size:
        return {"lower bound": float("nan"), "mean expansion": float("nan")}
    return {"lower bound": float(seen.max()), "mean expansion": float(seen.mean())}
