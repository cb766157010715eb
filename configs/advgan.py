"""See `advgan_jax/configs/advgan.py`."""

from advgan_jax.configs.advgan import get_config

__all__ = ["get_config"]
