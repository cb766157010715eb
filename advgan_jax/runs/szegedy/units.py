"""Figures 1 to 4, and a number for them: units against random directions."""

from typing import Any

from advgan_jax.analysis import compare_directions, hidden_features, layer_values
from advgan_jax.analysis.units import DirectionsResult
from advgan_jax.data import to_float
from advgan_jax.reporting import direction_grid
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import output
from advgan_jax.runs.szegedy.nets import Net, trained_net

_LINES = 6  # directions of each kind in the picture


def study(run: Run) -> list[dict[str, Any]]:
    """Looks into every hidden layer of `config.units.models`, on the test images.

    Args:
      run: the run.

    Returns:
      A row of `results.json` for each net, without attack.
    """
    rows, records = [], []
    for name in run.config.units.models:
        net = trained_net(run, name)
        test = run.dataset.test
        sample = to_float(test.images[:1])
        # What goes into a layer are the units of the one before it.
        _, *after = layer_values(net.model, net.variables, sample)
        for layer in after:
            found = compare(run, net, layer)
            records.append(record(net, layer, found))
            grid = direction_grid(
                test.images,
                {
                    "single units": found.unit_images[:_LINES],
                    "random directions": found.random_images[:_LINES],
                },
                title=f"{net.title}, units before {layer}",
            )
            label = layer.replace("/", "_")
            output.write(run, f"units-{name}-{label}", records[-1:], grid)
        rows.append(output.clean_row(run, net))
    output.write(run, "units", records, None)
    return rows


def compare(run: Run, net: Net, layer: str) -> DirectionsResult:
    """Units that go into a layer against random directions, on the test images."""
    test, section = run.dataset.test, run.config.units
    images = to_float(test.images)
    return compare_directions(
        hidden_features(net.model, net.variables, images, layer),
        test.labels,
        num_classes=run.dataset.num_classes,
        seed=run.config.seed,
        num_directions=section.num_directions,
        num_images=section.num_images,
        num_permutations=section.num_permutations,
    )


def record(net: Net, layer: str, found: DirectionsResult) -> dict[str, Any]:
    """The line of the table of one layer; entropies are means, in bits."""
    units, random = found.unit_entropy.mean(), found.random_entropy.mean()
    return {
        "model": net.title,
        "units before": layer,
        "directions": len(found.units),
        "images each": found.unit_images.shape[1],
        "entropy, units": float(units),
        "entropy, random": float(random),
        "difference": float(units - random),
        "p-value": found.p_value,
    }
