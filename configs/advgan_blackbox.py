"""The configuration in `advgan_jax/configs/advgan_blackbox.py`, for `--config=configs/advgan_blackbox.py`."""

from advgan_jax.configs.advgan_blackbox import get_config

__all__ = ["get_config"]
