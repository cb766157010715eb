"""The dtype in which networks multiply during training, one of `COMPUTE_DTYPES`.

Weights, checkpoints and all measurements stay float32. With float32, the default, each
function here returns its argument; otherwise a model with the same weights.
"""

import flax.linen as nn

from advgan_jax import models
from advgan_jax.training.gan import Networks
from advgan_jax.types import LogitsFn

DEFAULT_DTYPE = "float32"
# Not float16: its losses would have to be scaled.
COMPUTE_DTYPES = (DEFAULT_DTYPE, "bfloat16")


def mixed_module(dtype: str, module: nn.Module) -> nn.Module:
    """Return a network as it is trained."""
    return module if dtype == DEFAULT_DTYPE else models.MixedPrecision(module)


def mixed_networks(dtype: str, networks: Networks) -> Networks:
    """Return generator and discriminator as they are trained."""
    return networks._replace(
        generator=mixed_module(dtype, networks.generator),
        discriminator=mixed_module(dtype, networks.discriminator),
    )


def mixed_logits_fn(dtype: str, logits_fn: LogitsFn) -> LogitsFn:
    """Return a frozen model as a training step calls it."""
    return logits_fn if dtype == DEFAULT_DTYPE else models.lower_precision(logits_fn)
