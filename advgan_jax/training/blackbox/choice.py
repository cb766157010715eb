"""Choose which images to query: at random, or where the distilled model is uncertain.

References:
  Settles, 2009 (https://burrsettles.com/pub/settles.activelearning.pdf), Sec. 3.1.
"""

import jax
import jax.numpy as jnp

from advgan_jax.checks import unknown_name
from advgan_jax.types import Array

CHOICES = ("random", "margin", "entropy")


def uncertainty(logits: Array, measure: str) -> Array:
    r"""Return how uncertain a model is about each image, at most zero for `margin`.

    .. math::
        u_{margin} = p_{(2)} - p_{(1)}, \qquad u_{entropy} = -\sum_i p_i \log p_i

    with `p` the softmax of the logits and `p_{(1)}`, `p_{(2)}` the two largest.

    Args:
      logits: `[B, K]`.
      measure: `margin` or `entropy`.

    Returns:
      `[B]`; larger is more uncertain.

    Raises:
      ValueError: for another measure.
    """
    p = jax.nn.softmax(logits, axis=-1)
    if measure == "margin":
        largest = jax.lax.top_k(p, 2)[0]
        return largest[:, 1] - largest[:, 0]
    if measure == "entropy":
        return -jnp.sum(jax.scipy.special.xlogy(p, p), axis=-1)
    raise unknown_name("measure of uncertainty", measure, CHOICES[1:])


def most_uncertain(logits: Array, count: int, measure: str) -> Array:
    """Return the rows of the `count` most uncertain images, the most uncertain first.

    Arguments and errors are those of `uncertainty`. Among equals the first comes first.
    """
    return jnp.argsort(-uncertainty(logits, measure), stable=True)[:count]
