"""See `advgan_jax/configs/target.py`."""

from advgan_jax.configs.target import get_config

__all__ = ["get_config"]
