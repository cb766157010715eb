"""Re-export `advgan_jax/configs/generators.py`, for `--config`."""

from advgan_jax.configs.generators import get_config

__all__ = ["get_config"]
