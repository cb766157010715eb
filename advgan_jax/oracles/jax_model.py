"""Wrap a JAX model as a black box."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import digest, tracing
from advgan_jax.logits import apply, as_function
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
      **options: `budget`, `cache`, `ledger`, `timeout`, `name` and `probe`, see
        `Oracle`. By default a digest of weights and structure names a model that is a
        pytree with arrays, and a ledger of this name needs no probe.

    Returns:
      The oracle; see `Oracle` for errors.
    """
    check_kind(answers)
    as_function(logits_fn)
    arrays = jax.Array | np.ndarray
    weights = [w for w in jax.tree.leaves(logits_fn) if isinstance(w, arrays)]
    if not options.keys() & {"name", "probe"} and weights:
        # Without the addresses of functions, which change in each process.
        code = re.sub(r"0x[0-9a-f]+", "", str(jax.tree.structure(logits_fn)))
        name = digest.of_json([code, digest.of_arrays(weights)])
        options |= {"name": name, "probe": 0}

    def _fn(images: np.ndarray) -> np.ndarray:
        rows = np.minimum(np.arange(batch_size), len(images) - 1)
        models = {"logits_fn": as_function(logits_fn)}
        answered = tracing.call(_answer, models, images[rows], answers=answers)
        return np.asarray(answered)[: len(images)]

    return Oracle(
        _fn, answers=answers, num_classes=num_classes, batch_size=batch_size, **options
    )


def _answer(models: Any, images: Any, *, answers: str) -> Any:
    return _ANSWER_FNS[answers](apply(models, images).astype(jnp.float32))
