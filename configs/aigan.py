"""The configuration in `advgan_jax/configs/aigan.py`, for `--config=configs/aigan.py`."""

from advgan_jax.configs.aigan import get_config

__all__ = ["get_config"]
