"""Wrap a JAX model as a black box."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.logits import as_pytree
from advgan_jax.oracles.answers import check_kind
from advgan_jax.oracles.oracle import Oracle
from advgan_jax.types import LogitsFn

_ANSWER_FNS = {
    "probabilities": lambda logits: jax.nn.softmax(logits, axis=-1),
    "logits": lambda logits: logits,
    "labels": lambda logits: jnp.argmax(logits, axis=-1),
}


def from_logits_fn(
    logits_fn: LogitsFn,
    *,
    answers: str = "probabilities",
    num_classes: int,
    batch_size: int = 256,
    **options: Any,
) -> Oracle:
    """Wrap a JAX model as an oracle, which makes one compiled call per batch.

    Args:
      logits_fn: `[B, H, W, C] -> [B, K]` logits.
      answers: what the oracle reveals of the logits; see `Oracle`.
      num_classes: K.
      batch_size: B. Padding fills the last batch of a call and is not counted.
      **options: `budget`, `cache`, `ledger` and `timeout`, see `Oracle`.

    Returns:
      The oracle; see `Oracle` for errors.
    """
    check_kind(answers)
    answer = _ANSWER_FNS[answers]
    model = as_pytree(logits_fn)
    # The model is an argument: weights would otherwise be constants of the program.
    compiled = jax.jit(lambda model, images: answer(model(images).astype(jnp.float32)))

    def _fn(images: np.ndarray) -> np.ndarray:
        rows = np.minimum(np.arange(batch_size), len(images) - 1)
        return np.asarray(compiled(model, images[rows]))[: len(images)]

    return Oracle(
        _fn, answers=answers, num_classes=num_classes, batch_size=batch_size, **options
    )
