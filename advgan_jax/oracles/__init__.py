"""Black boxes that count, check and record a model's answers, on the host.

Example:
  >>> import numpy as np
  >>> from advgan_jax import oracles
  >>> is_bright = lambda images: (images.mean(axis=(1, 2, 3)) > 0.5).astype(int)
  >>> oracle = oracles.Oracle(is_bright, answers="labels", num_classes=2, budget=10)
  >>> oracle(np.ones((3, 8, 8, 1), np.float32)).argmax(axis=1)
  array([1, 1, 1])
  >>> oracle.queries, oracle.remaining
  (3, 7)
"""

from advgan_jax.oracles.answers import ANSWERS
from advgan_jax.oracles.encodings import ImageFiles, PixelLists
from advgan_jax.oracles.errors import BudgetExhausted, OracleError
from advgan_jax.oracles.http import HttpOracle
from advgan_jax.oracles.jax_model import from_logits_fn
from advgan_jax.oracles.ledger import Ledger
from advgan_jax.oracles.noise import Noise
from advgan_jax.oracles.oracle import Oracle

__all__ = [
    "ANSWERS",
    "BudgetExhausted",
    "HttpOracle",
    "ImageFiles",
    "Ledger",
    "Noise",
    "Oracle",
    "OracleError",
    "PixelLists",
    "from_logits_fn",
]
