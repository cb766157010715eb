"""Re-export `advgan_jax/configs/attacks.py`, for `--config`."""

from advgan_jax.configs.attacks import get_config

__all__ = ["get_config"]
