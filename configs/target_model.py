"""Re-export `advgan_jax/configs/target_model.py`, for `--config`."""

from advgan_jax.configs.target_model import get_config

__all__ = ["get_config"]
