"""Models that may only be asked: black boxes that count, check and remember.

Host side: an oracle calls back into Python, and is never part of a compiled function.
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
