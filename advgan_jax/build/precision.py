"""In which dtype networks multiply while they are trained.

Weights, what is kept of them, and all that is measured afterwards are float32 in any
case. With float32, the default, everything is left as it is.
"""

import flax.linen as nn

from advgan_jax import models
from advgan_jax.checks import unknown_name
from advgan_jax.training.alternating import Networks
from advgan_jax.types import LogitsFn

DEFAULT_DTYPE = "float32"
# Not float16: its losses would have to be scaled.
COMPUTE_DTYPES = (DEFAULT_DTYPE, "bfloat16")


def check_compute_dtype(name: str) -> None:
    """Raises `ValueError` for an unknown dtype; lists the known ones."""
    if name not in COMPUTE_DTYPES:
        raise unknown_name("compute_dtype", name, COMPUTE_DTYPES)


def mixed_module(compute_dtype: str, module: nn.Module) -> nn.Module:
    """A network as it is trained.

    Args:
      compute_dtype: one of `COMPUTE_DTYPES`.
      module: the network.

    Returns:
      A module of the same weights.
    """
    if compute_dtype == DEFAULT_DTYPE:
        return module
    return models.MixedPrecision(module)


def mixed_networks(compute_dtype: str, networks: Networks) -> Networks:
    """Generator and discriminator as they are trained; see `mixed_module`."""
    return networks._replace(
        generator=mixed_module(compute_dtype, networks.generator),
        discriminator=mixed_module(compute_dtype, networks.discriminator),
    )


def mixed_logits_fn(compute_dtype: str, logits_fn: LogitsFn) -> LogitsFn:
    """A frozen model as a training step calls it.

    Args:
      compute_dtype: one of `COMPUTE_DTYPES`.
      logits_fn: of float32 weights.

    Returns:
      A model of the same weights.
    """
    if compute_dtype == DEFAULT_DTYPE:
        return logits_fn
    return models.lower_precision(logits_fn)
