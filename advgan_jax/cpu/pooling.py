"""Max-pooling with a fast backward pass."""

from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp

from advgan_jax.types import Array


def max_pool(x: Array, window: int) -> Array:
    """Largest value of each `window` by `window` square, without overlap.

    Rows and columns left over at the end are dropped, as by `nn.max_pool`.

    Args:
      x: `[B, H, W, C]`.
      window: the side of the squares, and their stride.

    Returns:
      `[B, H // window, W // window, C]`. On CPU, entries of a square that are equally
      large share the gradient; elsewhere the first gets it all.
    """
    if jax.default_backend() != "cpu":
        return nn.max_pool(x, (window, window), (window, window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x[:, : rows * window, : columns * window]
    x = reduce(jnp.maximum, (x[:, i::window] for i in range(window)))
    return reduce(jnp.maximum, (x[:, :, j::window] for j in range(window)))
