"""The configuration in `advgan_jax/configs/szegedy.py`, for `--config=configs/szegedy.py`."""

from advgan_jax.configs.szegedy import get_config

__all__ = ["get_config"]
