"""In which dtype networks compute while they are trained.

Weights, what is kept of them, and all that is measured afterwards are float32 in any
case. With float32, the default, everything is left as it is.
"""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.checks import unknown_name
from advgan_jax.training.alternating import Networks
from advgan_jax.types import LogitsFn

DEFAULT = "float32"
# Not float16: its losses would have to be scaled.
COMPUTE_DTYPES = {DEFAULT: jnp.float32, "bfloat16": jnp.bfloat16}


def check_compute_dtype(section: ConfigDict) -> None:
    """Raises `ValueError` for an unknown `compute_dtype`; lists the known ones."""
    if section.compute_dtype not in COMPUTE_DTYPES:
        raise unknown_name("compute_dtype", section.compute_dtype, COMPUTE_DTYPES)


def mixed_module(section: ConfigDict, module: nn.Module) -> nn.Module:
    """A network as it is trained.

    Args:
      section: `compute_dtype`.
      module: whose layers shall compute in it.

    Returns:
      A module of the same weights.
    """
    if section.compute_dtype == DEFAULT:
        return module
    return models.MixedPrecision(module, COMPUTE_DTYPES[section.compute_dtype])


def mixed_networks(section: ConfigDict, networks: Networks) -> Networks:
    """Generator and discriminator as they are trained; see `mixed_module`."""
    return networks._replace(
        generator=mixed_module(section, networks.generator),
        discriminator=mixed_module(section, networks.discriminator),
    )


def mixed_logits_fn(section: ConfigDict, logits_fn: LogitsFn) -> LogitsFn:
    """A frozen model as a training step calls it.

    Args:
      section: `compute_dtype`.
      logits_fn: of float32 weights.

    Returns:
      The model, computing in it.
    """
    if section.compute_dtype == DEFAULT:
        return logits_fn
    return models.compute_in(logits_fn, COMPUTE_DTYPES[section.compute_dtype])
