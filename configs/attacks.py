"""The configuration in `advgan_jax/configs/attacks.py`, for `--config=configs/attacks.py`."""

from advgan_jax.configs.attacks import get_config

__all__ = ["get_config"]
