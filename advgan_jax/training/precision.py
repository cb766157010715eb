"""The dtype in which networks multiply during training.

Weights, checkpoints and all measurements stay float32. With float32, the default, each
function here returns its argument.
"""

import flax.linen as nn

from advgan_jax import models
from advgan_jax.training.gan import Networks
from advgan_jax.types import LogitsFn

DEFAULT_DTYPE = "float32"
# Not float16: its losses would have to be scaled.
COMPUTE_DTYPES = (DEFAULT_DTYPE, "bfloat16")


def mixed_module(dtype: str, module: nn.Module) -> nn.Module:
    """Return a network as it is trained.

    Args:
      dtype: one of `COMPUTE_DTYPES`.
      module: the network.

    Returns:
      A module with the same weights.
    """
    return module if dtype == DEFAULT_DTYPE else models.MixedPrecision(module)


def mixed_networks(dtype: str, networks: Networks) -> Networks:
    """Return generator and discriminator as they are trained; see `mixed_module`."""
    return networks._replace(
        generator=mixed_module(dtype, networks.generator),
        discriminator=mixed_module(dtype, networks.discriminator),
    )


def mixed_logits_fn(dtype: str, logits_fn: LogitsFn) -> LogitsFn:
    """Return a frozen model as a training step calls it.

    Args:
      dtype: one of `COMPUTE_DTYPES`.
      logits_fn: a model with float32 weights.

    Returns:
      A model with the same weights.
    """
    return logits_fn if dtype == DEFAULT_DTYPE else models.lower_precision(logits_fn)
