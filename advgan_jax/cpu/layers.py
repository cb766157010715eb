"""Convolution and pooling that are fast on every platform, with equal gradients.

XLA on CPU runs the backward pass of a convolution 8 to 25 times slower inside `scan`,
`while` and `cond` than in straight code (jax-ml/jax#12868): it brings convolutions
into their fast layout only outside of control flow. And strides and dilations, which
the backward passes of strided convolutions are full of, take a slow path anywhere.
Here every convolution becomes one without stride or dilation: strides move pixels into
channels, and input dilation moves channels into pixels. Its gradients are then written
as two convolutions of the same kind, which need no help.

The backward pass of a max-pool is several times faster through maxima of slices than
through `reduce_window`.

On other platforms everything is JAX' own. Two differences are visible on CPU only: the
convolution has a gradient of its own, so forward-mode derivatives (`jvp`, `jacfwd`,
`hessian`) of it are refused; and where several pixels of a pooled window are equal, the
gradient is shared among them instead of going to the first.

On all platforms a layer whose kernel is bfloat16 computes its products so; see
`models.MixedPrecision`.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from advgan_jax.cpu.conv2d import conv2d
from advgan_jax.cpu.conv_general import conv_general_dilated
from advgan_jax.cpu.pooling import max_pool
from advgan_jax.types import Array


def promote(
    inputs: Array, kernel: Array, bias: Array | None, **options: Any
) -> tuple[Array, Array, Array | None]:
    """To a common dtype, as Flax does it, but to a kernel of bfloat16 the inputs alone.

    A bias in bfloat16 would get its gradient as a sum of rounded numbers.

    Args:
      inputs: of a layer.
      kernel: its weights.
      bias: likewise, or None.
      **options: of Flax' `promote_dtype`.

    Returns:
      The three.
    """
    if kernel.dtype == jnp.bfloat16:
        return inputs.astype(kernel.dtype), kernel, bias
    return promote_dtype(inputs, kernel, bias, **options)


Conv = partial(
    nn.Conv, conv_general_dilated=conv_general_dilated, promote_dtype=promote
)
Dense = partial(nn.Dense, promote_dtype=promote)

__all__ = [
    "Conv",
    "Dense",
    "conv2d",
    "conv_general_dilated",
    "max_pool",
    "promote",
]
