"""See `advgan_jax/configs/attacks.py`."""

from advgan_jax.configs.attacks import get_config

__all__ = ["get_config"]
