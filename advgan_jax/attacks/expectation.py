"""Expectation over transformation: one model from one that draws random numbers."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from advgan_jax import checks
from advgan_jax.logits import check_arguments
from advgan_jax.types import Array, LogitsFn

_ODD = 2654435761  # spreads the bits of a sum


def expectation(
    logits_fn: Callable[[Array, Array], Array],
    num_samples: int = 20,
    *,
    key: Array,
) -> LogitsFn:
    r"""Return the mean logits of a model that draws random numbers.

    .. math:: \bar Z(x) = \frac1n \sum_{i=1}^n Z(x, k_i)

    An attack on the result follows the gradient of its loss at the mean logits. The
    keys `k_i` depend on the pixels of the whole batch, so every iterate has draws of
    its own. The result is a pure function: the same images have the same logits.

    Args:
      logits_fn: a model `(images, key) -> logits` that draws from `key`, for example
        random crops, noise or dropout.
      num_samples: `n`, the number of draws at each evaluation; the cost grows with it.
      key: one typed PRNG key.

    Returns:
      A model of images alone; a pytree if `logits_fn` is one.

    Raises:
      TypeError: if `logits_fn` is no function of images and key, or the key is not
        typed.
      ValueError: if `num_samples` is not a positive integer.

    References:
      Athalye et al., 2018 (https://arxiv.org/abs/1707.07397), Sec. 2.
    """
    if not callable(logits_fn):
        raise TypeError(
            "`logits_fn` must be a function (images, key) -> logits, got "
            f"{type(logits_fn).__name__}."
        )
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"`num_samples` must be an integer >= 1, got {num_samples!r}.")
    checks.check_key("expectation", key)
    check_arguments(logits_fn, "logits_fn", "images", "key")
    model = logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)
    return Partial(partial(_mean_logits, num_samples), model, key)


def _mean_logits(num_samples: int, model: Callable, key: Array, images: Array) -> Array:
    """Average over keys that depend on the images."""
    keys = jax.random.split(jax.random.fold_in(key, _hash(images)), num_samples)
    logits = jax.vmap(lambda own: model(images, own))(keys)
    return jnp.mean(logits, axis=0)


def _hash(images: Array) -> Array:
    """Return an integer that changes with any pixel."""
    bits = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[images.dtype.itemsize]
    pixels = lax.bitcast_convert_type(lax.stop_gradient(images), bits).reshape(-1)
    mixed = pixels.astype(jnp.uint32)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(_ODD)
    place = 2 * jnp.arange(mixed.size, dtype=jnp.uint32) + 1
    return jnp.sum(mixed * place, dtype=jnp.uint32)
