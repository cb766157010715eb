"""A batch that passes through a function in blocks, one after another."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from advgan_jax.types import Array


def map_blocks(fn: Callable[..., Array], num_blocks: int, *arrays: Array) -> Array:
    """Applies a function of a batch to blocks of it, in a scan.

    Args:
      fn: `(*arrays) -> results`, which treats each row alone.
      num_blocks: how many; blocks are of one size, so the last rows may be padding.
      *arrays: `[B, ...]` each.

    Returns:
      `fn(*arrays)`, `[B, ...]`.
    """
    batch = len(arrays[0])
    size = -(-batch // num_blocks)

    def cut(array):
        # Even blocks: one for what is left over would be compiled as another program.
        padding = [(0, num_blocks * size - batch)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(num_blocks, size, *array.shape[1:])

    results = lax.map(lambda block: fn(*block), tuple(map(cut, arrays)))
    return results.reshape(-1, *results.shape[2:])[:batch]
