"""The configuration in `advgan_jax/configs/reproduce.py`, for `--config=configs/reproduce.py`."""

from advgan_jax.configs.reproduce import get_config

__all__ = ["get_config"]
