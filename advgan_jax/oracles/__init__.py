"""Black boxes that count, check and record a model's answers, on the host."""

from advgan_jax.oracles.answers import ANSWERS
from advgan_jax.oracles.errors import BudgetExhausted, OracleError
from advgan_jax.oracles.jax_model import from_logits_fn
from advgan_jax.oracles.ledger import Ledger
from advgan_jax.oracles.oracle import Noise, Oracle

__all__ = [
    "ANSWERS",
    "BudgetExhausted",
    "Ledger",
    "Noise",
    "Oracle",
    "OracleError",
    "from_logits_fn",
]
