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
"""

from collections.abc import Sequence
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.types import Array

_NHWC = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
_Pair = tuple[int, int]


_NONE = ((0, 0), (0, 0))


def _convolve(
    x: Array, kernel: Array, padding: Sequence[_Pair], precision: lax.PrecisionLike
) -> Array:
    # A convolution with no padding at all goes to a library that takes up to three
    # times as long; one column more than is needed goes past it, and is cut off.
    unpadded = tuple(padding) == _NONE
    y = lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((0, 0), (0, 1)) if unpadded else padding,
        dimension_numbers=_NHWC,
        precision=precision,
    )
    return y[:, :, :-1] if unpadded else y


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(
    x: Array,
    kernel: Array,
    padding: Sequence[_Pair] = _NONE,
    precision: lax.PrecisionLike = None,
) -> Array:
    """A convolution without strides whose gradients are such convolutions too.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[h, w, C, D]`.
      padding: pixels before and after rows and columns; a pair of pairs.
      precision: as `lax.conv_general_dilated` takes it.

    Returns:
      `[B, H - h + 1, W - w + 1, D]`, and as much more as is padded.
    """
    return _convolve(x, kernel, padding, precision)


def _conv2d_fwd(x, kernel, padding, precision):
    return _convolve(x, kernel, padding, precision), (x, kernel)


def _conv2d_bwd(padding, precision, residuals, gradient):
    x, kernel = residuals
    around = [
        (size - 1 - before, size - 1 - after)
        for size, (before, after) in zip(kernel.shape, padding, strict=False)
    ]
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = _convolve(gradient, flipped, around, precision)
    # The batch plays the part of the input channels here, and C that of the batch.
    dkernel = _convolve(
        x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), padding, precision
    )
    return dx, dkernel.transpose(1, 2, 0, 3)


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


def _strided(
    x: Array,
    kernel: Array,
    padding: Sequence[_Pair],
    strides: _Pair,
    precision: lax.PrecisionLike,
) -> Array:
    """A convolution with strides: pixels that share a phase become channels."""
    if strides == (1, 1):
        return conv2d(x, kernel, tuple(padding), precision)
    around = [(0, 0, 0), *((a, b, 0) for a, b in padding), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), around)
    padding_x, padding_k, sizes = [(0, 0, 0)], [], []
    for axis, stride in enumerate(strides):
        window, size = kernel.shape[axis], x.shape[1 + axis]
        taps = -(-window // stride)
        length = (size - window) // stride + taps
        padding_x.append((0, length * stride - size, 0))
        padding_k.append((0, taps * stride - window, 0))
        sizes.append((length, stride, taps))
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [*padding_x, (0, 0, 0)])
    kernel = lax.pad(kernel, zero, [*padding_k, (0, 0, 0), (0, 0, 0)])
    (rows, s, h), (columns, t, w) = sizes
    c, d = kernel.shape[2:]
    x = x.reshape(-1, rows, s, columns, t, c).transpose(0, 1, 3, 2, 4, 5)
    kernel = kernel.reshape(h, s, w, t, c, d).transpose(0, 2, 1, 3, 4, 5)
    return conv2d(
        x.reshape(-1, rows, columns, s * t * c),
        kernel.reshape(h, w, s * t * c, d),
        _NONE,
        precision,
    )


def _dilated(
    x: Array,
    kernel: Array,
    padding: Sequence[_Pair],
    dilation: _Pair,
    precision: lax.PrecisionLike,
) -> Array:
    """A convolution of an input with zeros between its pixels (a transposed one).

    Output pixel `d q + p` sees input pixel `q + m` through tap `d m + before - p`:
    each phase p has a small kernel of its own and becomes a channel, then a pixel.
    """
    padding_x, padding_k, sizes = [], [], []
    for axis, d in enumerate(dilation):
        window, size = kernel.shape[axis], x.shape[1 + axis]
        before, after = padding[axis]
        out = (size - 1) * d + 1 + before + after - window + 1
        first, last = -(before // d), (window + d - 2 - before) // d
        taps, low = last - first + 1, d * first + before - (d - 1)
        phases = -(-out // d)
        padding_x.append((-first, phases + taps - 1 - size + first))
        padding_k.append((-low, low + d * taps - window, 0))
        sizes.append((phases, d, taps, out))
    zero = jnp.zeros((), kernel.dtype)
    kernel = lax.pad(kernel, zero, [*padding_k, (0, 0, 0), (0, 0, 0)])
    (rows, s, h, height), (columns, t, w, width) = sizes
    c, d = kernel.shape[2:]
    kernel = kernel.reshape(h, s, w, t, c, d)[:, ::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(h, w, c, s * t * d)
    y = conv2d(x, kernel, tuple(padding_x), precision)
    y = y.reshape(-1, rows, columns, s, t, d).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, rows * s, columns * t, d)
    return y[:, :height, :width]


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type=None,
) -> Array:
    """Takes the place of `lax.conv_general_dilated`; on CPU, through `conv2d`.

    Plugs into Flax as `nn.Conv(..., conv_general_dilated=conv_general_dilated)`.
    Grouped and dilated-kernel convolutions, those with both strides and input
    dilation, other layouts and other numbers of axes stay JAX' own.

    Args:
      lhs: input.
      rhs: kernel.
      window_strides: as in `lax.conv_general_dilated`, like all that follow.
      padding: a string, or pixels before and after each spatial axis.
      lhs_dilation: of the input.
      rhs_dilation: of the kernel.
      dimension_numbers: the layout.
      feature_group_count: groups of channels.
      batch_group_count: groups of the batch.
      precision: of the products.
      preferred_element_type: of the sums.

    Returns:
      The convolution.
    """
    lhs_dilation = tuple(lhs_dilation or (1,) * (lhs.ndim - 2))
    rhs_dilation = tuple(rhs_dilation or (1,) * (lhs.ndim - 2))
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ours = (
        jax.default_backend() == "cpu"
        and layout == _NHWC
        and rhs_dilation == (1, 1)
        and (lhs_dilation == (1, 1) or tuple(window_strides) == (1, 1))
        and feature_group_count == batch_group_count == 1
        and preferred_element_type in (None, lhs.dtype)
        and lhs.dtype == rhs.dtype
    )
    if not ours:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=layout,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(
            lhs.shape[1:3], rhs.shape[:2], window_strides, padding
        )
    if lhs_dilation != (1, 1):
        return _dilated(lhs, rhs, padding, lhs_dilation, precision)
    return _strided(lhs, rhs, padding, tuple(window_strides), precision)


Conv = partial(nn.Conv, conv_general_dilated=conv_general_dilated)


def max_pool(x: Array, window: int) -> Array:
    """Largest value of each `window` by `window` square, without overlap.

    Rows and columns left over at the end are dropped, as by `nn.max_pool`.

    Args:
      x: `[B, H, W, C]`.
      window: the side of the squares, and their stride.

    Returns:
      `[B, H // window, W // window, C]`. On CPU, entries of a square that are equally
      large share the gradient; elsewhere the first gets it all.
    """
    if jax.default_backend() != "cpu":
        return nn.max_pool(x, (window, window), (window, window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x[:, : rows * window, : columns * window]
    x = reduce(jnp.maximum, (x[:, i::window] for i in range(window)))
    return reduce(jnp.maximum, (x[:, :, j::window] for j in range(window)))
