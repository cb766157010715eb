"""Attack black boxes image by image, by queries that an oracle counts."""

from advgan_jax.blackbox.hybrid import hybrid
from advgan_jax.blackbox.pool import OracleResult, attack_oracle

__all__ = ["OracleResult", "attack_oracle", "hybrid"]
