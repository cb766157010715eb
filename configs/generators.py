"""The configuration in `advgan_jax/configs/generators.py`, for `--config=configs/generators.py`."""

from advgan_jax.configs.generators import get_config

__all__ = ["get_config"]
