"""The configuration in `advgan_jax/configs/advgan.py`, for `--config=configs/advgan.py`."""

from advgan_jax.configs.advgan import get_config

__all__ = ["get_config"]
