"""Analysis of models: Lipschitz bounds, and the images that units respond to."""

from advgan_jax.analysis._layers import Layer, layer_values
from advgan_jax.analysis.lipschitz import LipschitzBounds, upper_bounds
from advgan_jax.analysis.norms import conv_norm, dense_norm, padded_grid
from advgan_jax.analysis.spectral import measured_expansions, summarize_expansions
from advgan_jax.analysis.units import (
    DirectionsResult,
    class_entropy,
    compare_directions,
    hidden_features,
    permutation_test,
    top_images,
)

__all__ = [
    "DirectionsResult",
    "Layer",
    "LipschitzBounds",
    "class_entropy",
    "compare_directions",
    "conv_norm",
    "dense_norm",
    "hidden_features",
    "layer_values",
    "measured_expansions",
    "padded_grid",
    "permutation_test",
    "summarize_expansions",
    "top_images",
    "upper_bounds",
]
