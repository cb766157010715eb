"""Convolution, dense layer and pooling that are fast on every platform.

Three operations are slow in XLA on CPU. There, and only there, they are replaced:
  * the backward pass of a convolution inside `scan`, `while` and `cond`
    (jax-ml/jax#12868), by a gradient of two convolutions without strides (`conv2d`);
  * strides and dilations, by pixels moved into channels or back (`conv_general`);
  * the backward pass of `nn.max_pool`, by maxima of slices.

One difference is visible, on CPU only: forward-mode derivatives (`jvp`, `jacfwd`,
`hessian`) of the convolution are rejected.

On all platforms a layer with a bfloat16 kernel computes its products in bfloat16; see
`models.MixedPrecision`.
"""

from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from advgan_jax.cpu.conv2d import conv2d
from advgan_jax.cpu.conv_general import conv_general_dilated
from advgan_jax.types import Array


def promote(*operands: Any, **options: Any) -> list[Any]:
    """Promote inputs, kernel and bias as Flax does, but inputs to a bfloat16 kernel.

    The bias stays float32: in bfloat16 its gradient would be a sum of rounded numbers.
    """
    inputs, kernel, bias = operands
    if kernel.dtype == jnp.bfloat16:
        return [inputs.astype(kernel.dtype), kernel, bias]
    return promote_dtype(inputs, kernel, bias, **options)


Conv: partial[nn.Conv] = partial(
    nn.Conv, conv_general_dilated=conv_general_dilated, promote_dtype=promote
)
Dense: partial[nn.Dense] = partial(nn.Dense, promote_dtype=promote)


def max_pool(x: Array, window: int) -> Array:
    """Return the largest value of each `window` by `window` square, without overlap.

    Maps `[B, H, W, C]` to `[B, H // window, W // window, C]`, and drops remaining rows
    and columns. Of equally large entries the first, row by row, gets the gradient.
    """
    if jax.default_backend() != "cpu":
        return nn.max_pool(x, (window, window), (window, window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x[:, : rows * window, : columns * window]
    x = reduce(_larger, (x[:, :, j::window] for j in range(window)))
    return reduce(_larger, (x[:, i::window] for i in range(window)))


@jax.custom_jvp
def _larger(first: Array, second: Array) -> Array:
    """Return the maximum, whose derivative is that of the first where both are equal.

    On MNIST many are: the black pixels around a digit. `jnp.maximum` shares the
    gradient among them. Against an adversarially trained model, FAB's perturbations
    were then a percent longer.
    """
    return jnp.maximum(first, second)


@_larger.defjvp
def _differentiate(
    values: tuple[Array, Array], slopes: tuple[Array, Array]
) -> tuple[Array, Array]:
    return _larger(*values), jnp.where(values[1] > values[0], slopes[1], slopes[0])


__all__ = ["Conv", "Dense", "conv2d", "conv_general_dilated", "max_pool", "promote"]
