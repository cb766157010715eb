"""Re-export `advgan_jax/configs/advgan.py`, for `--config`."""

from advgan_jax.configs.advgan import get_config

__all__ = ["get_config"]
