"""Re-export `advgan_jax/configs/advgan_blackbox.py`, for `--config`."""

from advgan_jax.configs.advgan_blackbox import get_config

__all__ = ["get_config"]
