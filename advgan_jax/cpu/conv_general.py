"""Convolutions with strides or dilated inputs, rewritten without either."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.cpu.conv2d import NHWC, Padding, Precision, conv2d
from advgan_jax.types import Array


def _strided(
    x: Array,
    kernel: Array,
    padding: Padding,
    strides: Sequence[int],
    precision: Precision,
) -> Array:
    """Convolve with strides, after the pixels of a stride became channels."""
    if strides == (1, 1):
        return conv2d(x, kernel, tuple(padding), precision)
    padding_x, padding_k, sizes, cells = [(0, 0, 0)], [], [], []
    for axis, stride in enumerate(strides):
        before, after = padding[axis]
        window, size = kernel.shape[axis], x.shape[1 + axis] + before + after
        taps = -(-window // stride)
        length = (size - window) // stride + taps
        after += length * stride - size
        # The convolution itself pads the cells at the end that are all zeros.
        empty = max(0, after // stride)
        padding_x.append((before, after - empty * stride, 0))
        padding_k.append((0, taps * stride - window, 0))
        sizes.append((length - empty, stride, taps))
        cells.append((0, empty))
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [*padding_x, (0, 0, 0)])
    kernel = lax.pad(kernel, zero, [*padding_k, (0, 0, 0), (0, 0, 0)])
    (rows, s, h), (columns, t, w) = sizes
    c, d = kernel.shape[2:]
    # Pixels of a row are adjacent already; a transposition is twice as slow.
    x = x.reshape(-1, rows, s, columns, t * c)
    x = jnp.concatenate([x[:, :, i] for i in range(s)], axis=-1)
    kernel = kernel.reshape(h, s, w, t, c, d).transpose(0, 2, 1, 3, 4, 5)
    return conv2d(x, kernel.reshape(h, w, s * t * c, d), tuple(cells), precision)


def _dilated(
    x: Array,
    kernel: Array,
    padding: Padding,
    dilation: Sequence[int],
    precision: Precision,
) -> Array:
    """Convolve an input with zeros between its pixels (a transposed convolution).

    Output pixel `d q + p` sees input pixel `q + m` through tap `d m + before - p`. So
    each phase p has its own small kernel; it becomes a channel, then a pixel.
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
    y: Any = conv2d(x, kernel, tuple(padding_x), precision)
    y = y.reshape(-1, rows, columns, s, t, d).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, rows * s, columns * t, d)
    return y[:, :height, :width]


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Precision = None,
    preferred_element_type: Any = None,
) -> Array:
    """Replace `lax.conv_general_dilated`, with the same arguments; on CPU by `conv2d`.

    Plugs into Flax as `nn.Conv(..., conv_general_dilated=conv_general_dilated)`. JAX's
    own function computes grouped convolutions, dilated kernels, strides together with
    input dilation, and all layouts but `NHWC`.
    """
    lhs_dilation = tuple(lhs_dilation or (1,) * (lhs.ndim - 2))
    rhs_dilation = tuple(rhs_dilation or (1,) * (lhs.ndim - 2))
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ours = (
        jax.default_backend() == "cpu"
        and layout == NHWC
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
