"""Order and batches: pure functions, so that a resumed run sees the same."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np


def epoch_order(key: jax.Array, epoch: int, num_examples: int) -> np.ndarray:
    """The order in which an epoch visits the training examples.

    Args:
      key: a typed key, the same for the whole run.
      epoch: counted from 0.
      num_examples: N.

    Returns:
      int `[N]`, a permutation of `0..N-1` that depends on nothing but the arguments.

    Raises:
      TypeError: if `key` is not a typed key.
      ValueError: if `epoch` is negative or `num_examples` less than 1.
    """
    if not jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        raise TypeError(
            "`key` must be a typed PRNG key, got "
            f"{getattr(key, 'dtype', type(key).__name__)}; use `jax.random.key(seed)`."
        )
    if epoch < 0 or num_examples < 1:
        raise ValueError(
            "`epoch` must be at least 0 and `num_examples` at least 1, got "
            f"{epoch} and {num_examples}."
        )
    return np.asarray(shuffled(key, epoch, num_examples))


def shuffled(key: jax.Array, epoch: jax.Array | int, num_examples: int) -> jax.Array:
    """`epoch_order` on the device, unchecked; may be traced.

    Args:
      key: a typed key, the same for the whole run.
      epoch: counted from 0.
      num_examples: N.

    Returns:
      int32 `[N]`.
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def evaluation_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cuts a split into batches of one size and drops nothing.

    The last batch is filled up with copies of its last image: one shape means one
    compilation, and a real image cannot turn into a NaN in a user's model.

    Args:
      images: `[N, H, W, C]`, uint8 or float32.
      labels: int `[N]`.
      batch_size: B, at least 1.

    Returns:
      An iterator over `(images [B, H, W, C], labels [B], mask [B])` in order, dtypes
      kept; `mask` is False on what was filled in.

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
    return _cut(images, labels, batch_size)


def _cut(images, labels, batch_size):
    for start in range(0, len(labels), batch_size):
        rows = np.arange(start, start + batch_size)
        mask = rows < len(labels)
        rows = np.minimum(rows, len(labels) - 1)
        yield images[rows], labels[rows], mask
