"""Re-export `advgan_jax/configs/reproduce.py`, for `--config`."""

from advgan_jax.configs.reproduce import get_config

__all__ = ["get_config"]
