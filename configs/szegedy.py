"""Re-export `advgan_jax/configs/szegedy.py`, for `--config`."""

from advgan_jax.configs.szegedy import get_config

__all__ = ["get_config"]
