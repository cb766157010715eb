"""Measure spectral instability: how far layers stretch given perturbations.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.3 and Table 5.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from advgan_jax.analysis._layers import layer_values
from advgan_jax.checks import check_at_least


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
      images: clean, float32 `[N, H, W, C]`.
      adversarial: the perturbed images, the same shape.
      batch_size: how many images to process at a time.

    Returns:
      Ratios `[N]` by the layer's name in the order of the calls, and at the end those
      of the whole `network`; NaN where the input of a layer did not change.

    Raises:
      ValueError: if the shapes differ, or `batch_size` is not positive.
    """
    check_at_least("batch_size", batch_size, 1)
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
