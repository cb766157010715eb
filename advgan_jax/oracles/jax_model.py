"""A JAX model as a black box: what it says, and nothing else, gets out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from advgan_jax.oracles.answers import check_kind
from advgan_jax.oracles.oracle import Oracle
from advgan_jax.types import LogitsFn


def from_logits_fn(
    logits_fn: LogitsFn,
    *,
    answers: str = "probabilities",
    num_classes: int,
    batch_size: int = 256,
    **options: Any,
) -> Oracle:
    """A JAX model as an oracle: one compiled call for each batch, counted all the same.

    Args:
      logits_fn: `[B, H, W, C] -> [B, K]` logits.
      answers: what the oracle gets to know of them; see `Oracle`.
      num_classes: K.
      batch_size: B; the last batch of a call is filled up.
      **options: `budget`, `cache`, `ledger` and `timeout`, see `Oracle`.

    Returns:
      The oracle.

    Raises:
      ValueError: as `Oracle` does.
    """
    check_kind(answers)
    said = {
        "probabilities": lambda logits: jax.nn.softmax(logits, axis=-1),
        "logits": lambda logits: logits,
        "labels": lambda logits: jnp.argmax(logits, axis=-1),
    }[answers]
    if not isinstance(logits_fn, Partial):
        logits_fn = Partial(logits_fn)
    # The model as an argument: its weights would be constants of the program else.
    compiled = jax.jit(lambda model, images: said(model(images).astype(jnp.float32)))

    def fn(images: np.ndarray) -> np.ndarray:
        rows = np.minimum(np.arange(batch_size), len(images) - 1)
        return np.asarray(compiled(logits_fn, images[rows]))[: len(images)]

    return Oracle(
        fn, answers=answers, num_classes=num_classes, batch_size=batch_size, **options
    )
