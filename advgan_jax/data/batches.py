"""Order examples and cut batches, always alike, so that a run can resume."""

from collections.abc import Iterator

import jax
import numpy as np


def shuffled(key: jax.Array, epoch: jax.Array | int, num_examples: int) -> jax.Array:
    """Return the order in which an epoch visits the training examples.

    Args:
      key: a typed key, the same for the whole run.
      epoch: counted from 0; may be traced.
      num_examples: N.

    Returns:
      int32 `[N]`, a permutation that depends on the arguments alone.
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def evaluation_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut a split into batches of one size; copies of the last image fill the last one.

    Args:
      images: `[N, H, W, C]`, uint8 or float32.
      labels: int `[N]`.
      batch_size: B, at least 1.

    Returns:
      An iterator over `(images [B, H, W, C], labels [B], mask [B])` in order and with
      unchanged dtypes; `mask` is False for the copies.

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
    # One shape needs one compilation, and a real image gives no NaN in a user's model.
    starts = range(0, len(labels), batch_size)
    every = (np.arange(start, start + batch_size) for start in starts)
    last = len(labels) - 1
    filled = ((np.minimum(rows, last), rows <= last) for rows in every)
    return ((images[rows], labels[rows], mask) for rows, mask in filled)
