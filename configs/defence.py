"""The configuration in `advgan_jax/configs/defence.py`, for `--config=configs/defence.py`."""

from advgan_jax.configs.defence import get_config

__all__ = ["get_config"]
