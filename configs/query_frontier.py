"""Re-export `advgan_jax/configs/query_frontier.py`, for `--config`."""

from advgan_jax.configs.query_frontier import get_config

__all__ = ["get_config"]
