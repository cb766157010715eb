"""Order and batches: pure functions, so that a resumed run sees the same examples."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np


def epoch_order(key: jax.Array, epoch: int, num_examples: int) -> np.ndarray:
    """Return the order in which an epoch visits the training examples.

    Args:
      key: a typed key, the same for the whole run.
      epoch: counted from 0.
      num_examples: N.

    Returns:
      int `[N]`, a permutation of `0..N-1` that depends on the arguments alone.

    Raises:
      TypeError: if `key` is not a typed key.
      ValueError: if `epoch` is negative or `num_examples` less than 1.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"`key` must be a typed PRNG key, got {dtype or type(key).__name__}; "
            "use `jax.random.key(seed)`."
        )
    if epoch < 0 or num_examples < 1:
        raise ValueError(
            "`epoch` must be at least 0 and `num_examples` at least 1, got "
            f"{epoch} and {num_examples}."
        )
    return np.asarray(shuffled(key, epoch, num_examples))


def shuffled(key: jax.Array, epoch: jax.Array | int, num_examples: int) -> jax.Array:
    """Return `epoch_order` as int32 on the device, unchecked; it may be traced."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def evaluation_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut a split into batches of one size without dropping an image.

    Copies of the last image fill the last batch: one shape needs one compilation, and
    a real image cannot produce NaN in a user's model.

    Args:
      images: `[N, H, W, C]`, uint8 or float32.
      labels: int `[N]`.
      batch_size: B, at least 1.

    Returns:
      An iterator over `(images [B, H, W, C], labels [B], mask [B])` in order, dtypes
      kept; `mask` is False on the copies.

    Raises:
      ValueError: if `batch_size` is less than 1 or the lengths differ.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    if len(images) != len(labels):
        raise ValueError(
            "`images` and `labels` must have equal lengths, got "
            f"{len(images)} and {len(labels)}."
        )
    starts = range(0, len(labels), batch_size)
    every = (np.arange(start, start + batch_size) for start in starts)
    last = len(labels) - 1
    filled = ((np.minimum(rows, last), rows <= last) for rows in every)
    return ((images[rows], labels[rows], mask) for rows, mask in filled)
