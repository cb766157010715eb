"""Re-export `advgan_jax/configs/evaluate.py`, for `--config`."""

from advgan_jax.configs.evaluate import get_config

__all__ = ["get_config"]
