"""See `advgan_jax/configs/szegedy.py`."""

from advgan_jax.configs.szegedy import get_config

__all__ = ["get_config"]
