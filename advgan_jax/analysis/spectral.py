"""Measure spectral instability: how far layers stretch given perturbations.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.3 and Table 5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from advgan_jax.analysis._layers import layer_values
from advgan_jax.analysis.lipschitz import LipschitzBounds
from advgan_jax.checks import check_at_least, to_float


def measured_expansions(
    model: nn.Module,
    variables: Any,
    images: np.ndarray,
    adversarial: np.ndarray,
    *,
    batch_size: int = 100,
) -> dict[str, np.ndarray]:
    r"""Measure how far each layer stretches perturbations, a lower bound of its norm.

    .. math:: \lVert \phi_k(h') - \phi_k(h) \rVert_2 / \lVert h' - h \rVert_2

    with the inputs `h`, `h'` of layer `k` for an image and its perturbed copy.

    Args:
      model: any Flax module that takes only images at inference.
      variables: its weights.
      images: clean, `[N, H, W, C]`, floats, or uint8 that mean k/255.
      adversarial: the perturbed images, the same shape.
      batch_size: how many images to process at a time.

    Returns:
      Ratios `[N]` by the layer's name in the order of the calls, and at the end those
      of the whole `network`; NaN where the input of a layer did not change.

    Raises:
      ValueError: if the shapes differ, or `batch_size` is not positive.
    """
    check_at_least("batch_size", batch_size, 1)
    images, adversarial = (to_float(np.asarray(x)) for x in (images, adversarial))
    if images.shape != adversarial.shape:
        raise ValueError(
            f"`adversarial` must have the shape {list(images.shape)} of `images`, "
            f"got {list(adversarial.shape)}."
        )
    ratios: dict[str, list[np.ndarray]] = {}
    network = []
    for start in range(0, len(images), batch_size):
        pair = [x[start : start + batch_size] for x in (images, adversarial)]
        clean, moved = (layer_values(model, variables, x) for x in pair)
        for name, (x, y) in clean.items():
            ratio = _ratio((moved[name][1], y), (moved[name][0], x))
            ratios.setdefault(name, []).append(ratio)
        # Other operations may follow the last linear layer.
        logits = [_logits(model, variables, x) for x in pair]
        network.append(_ratio(logits, pair))
    ratios["network"] = network  # after all layers
    return {name: np.concatenate(r) for name, r in ratios.items()}


_logits = jax.jit(lambda model, *inputs: model.apply(*inputs), static_argnums=0)


def _ratio(outputs: Sequence[Any], inputs: Sequence[Any]) -> np.ndarray:
    """Divide the L2 distances of two pairs, `[B]`; NaN where the divisor is 0."""
    changes = (np.subtract(*pair, dtype=np.float64) for pair in (outputs, inputs))
    after, before = (np.linalg.norm(x.reshape(len(x), -1), axis=1) for x in changes)
    return np.divide(after, before, out=np.full(after.shape, np.nan), where=before > 0)


def summarize_expansions(
    bounds: LipschitzBounds, measured: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return a table's line for each layer, and last one for the whole model.

    `measured` is what `measured_expansions` returned. A layer whose inputs no image
    changed has None as its lower bound.
    """
    names = ("layer", "kind", "size", "stride", "upper bound", "upper bound, circular")
    lines: list[dict[str, Any]] = [
        dict(zip(names, one, strict=True)) for one in bounds.layers
    ]
    lines.append({"layer": "network", "upper bound": bounds.network})
    for line in lines:
        seen = measured[line["layer"]]
        seen = seen[~np.isnan(seen)]  # NaN where the image was not moved
        line["lower bound"] = float(seen.max()) if seen.size else None
        line["mean expansion"] = float(seen.mean()) if seen.size else None
    return lines
