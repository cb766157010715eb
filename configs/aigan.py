"""Re-export `advgan_jax/configs/aigan.py`, for `--config`."""

from advgan_jax.configs.aigan import get_config

__all__ = ["get_config"]
