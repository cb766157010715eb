"""In which dtype networks multiply while they are trained.

Weights, what is kept of them, and all that is measured afterwards are float32 in any
case. With float32, the default, everything is left as it is.
"""

import flax.linen as nn
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.checks import unknown_name
from advgan_jax.training.gan import Networks
from advgan_jax.types import LogitsFn

DEFAULT_DTYPE = "float32"
# Not float16: its losses would have to be scaled.
COMPUTE_DTYPES = (DEFAULT_DTYPE, "bfloat16")


def compute_dtype(section: ConfigDict) -> str:
    """What the networks of a section multiply in while they are trained.

    Args:
      section: `config.target_training` or `config.training`, also as a `config.json` has it,
        which does not tell the default.

    Returns:
      One of `COMPUTE_DTYPES`.

    Raises:
      ValueError: for an unknown name; lists the known ones.
    """
    name = section.get("compute_dtype", DEFAULT_DTYPE)
    if name not in COMPUTE_DTYPES:
        raise unknown_name("compute_dtype", name, COMPUTE_DTYPES)
    return name


def mixed_module(dtype: str, module: nn.Module) -> nn.Module:
    """A network as it is trained.

    Args:
      dtype: one of `COMPUTE_DTYPES`.
      module: the network.

    Returns:
      A module of the same weights.
    """
    if dtype == DEFAULT_DTYPE:
        return module
    return models.MixedPrecision(module)


def mixed_networks(dtype: str, networks: Networks) -> Networks:
    """Generator and discriminator as they are trained; see `mixed_module`."""
    return networks._replace(
        generator=mixed_module(dtype, networks.generator),
        discriminator=mixed_module(dtype, networks.discriminator),
    )


def mixed_logits_fn(dtype: str, logits_fn: LogitsFn) -> LogitsFn:
    """A frozen model as a training step calls it.

    Args:
      dtype: one of `COMPUTE_DTYPES`.
      logits_fn: of float32 weights.

    Returns:
      A model of the same weights.
    """
    if dtype == DEFAULT_DTYPE:
        return logits_fn
    return models.lower_precision(logits_fn)
