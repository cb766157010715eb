"""The configuration in `advgan_jax/configs/target_model.py`, for `--config=configs/target_model.py`."""

from advgan_jax.configs.target_model import get_config

__all__ = ["get_config"]
