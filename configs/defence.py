"""Re-export `advgan_jax/configs/defence.py`, for `--config`."""

from advgan_jax.configs.defence import get_config

__all__ = ["get_config"]
