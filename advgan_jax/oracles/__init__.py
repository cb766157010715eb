"""Oracles: black boxes that count, check and record the answers of a model.

An oracle runs on the host, calls back into Python, and is never compiled.
"""

from advgan_jax.oracles.answers import ANSWERS
from advgan_jax.oracles.errors import BudgetExhausted, OracleError
from advgan_jax.oracles.jax_model import from_logits_fn
from advgan_jax.oracles.ledger import Ledger
from advgan_jax.oracles.noise import Noise
from advgan_jax.oracles.oracle import Oracle

__all__ = [
    "ANSWERS",
    "BudgetExhausted",
    "Ledger",
    "Noise",
    "Oracle",
    "OracleError",
    "from_logits_fn",
]
