"""A convolution without strides, whose gradients are such convolutions too.

XLA on CPU has several algorithms of very different speed, and chooses one by details of
the padding and the channels. This module gives it inputs for the fast ones, or computes
the convolution as matrix products.

Arguments: `x` `[B, H, W, C]`, `kernel` `[h, w, C, D]`, pairs of `padding` before and
after rows and columns, `precision` as in `lax.conv_general_dilated`, and the `gradient`
of the result.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.cpu.cores import num_cores
from advgan_jax.types import Array

NHWC = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
Pair = tuple[int, int]
Padding = Sequence[Pair]
Precision = lax.PrecisionLike
UNPADDED = ((0, 0), (0, 0))
_FEW = 8
# By channels: the number of filters up to which `_few_channels` beats XLA.
_MOST_FILTERS = {1: 16, 2: 32, 3: 32}
_MANY_PIXELS = 64
_BLOCK = 2**18  # floats, a megabyte


def _convolve(x: Array, kernel: Array, padding: Padding, precision: Precision) -> Array:
    """Convolve by the fastest algorithm for these shapes."""
    channels, filters = kernel.shape[2:]
    if filters <= _FEW and 2 * filters <= channels:
        return _few_filters(x, kernel, padding, precision)
    if filters <= _MOST_FILTERS.get(channels, 0):
        return _few_channels(x, kernel, padding, precision)
    rows, (left, right) = padding
    extra = _extra_columns(x, kernel, padding)
    y = lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        (rows, (left, right + extra)),
        dimension_numbers=NHWC,
        precision=precision,
    )
    return y[:, :, :-extra] if extra else y


def _extra_columns(x: Array, kernel: Array, padding: Padding) -> int:
    """Return the number of columns to compute and drop, so that XLA is fast.

    Without padding, XLA's algorithm takes up to three times as long as with any
    padding. It uses several cores only if the padding of rows or columns is as wide as
    the kernel. From about 10^8 products on, that is worth the extra columns.
    """
    height, width, channels, filters = kernel.shape
    if channels == 1:
        return 0  # equally fast with and without padding
    rows, columns = map(sum, padding)
    least = int(tuple(padding) == UNPADDED)
    if not isinstance(x.shape[0], int):
        return least  # exported for batches of any size
    products = x.size * height * width * filters
    cores = num_cores() // jax.local_device_count()
    if products > 1e8 and cores > 1 and rows < height:
        return max(0, width - columns)
    return least


def _few_channels(
    x: Array, kernel: Array, padding: Padding, precision: Precision
) -> Array:
    """Convolve few channels by a product of several columns: 2 to 6 times faster.

    The windows of neighbouring columns share most pixels. That of a single column has
    too few channels for a fast product.
    """
    height, width, channels, filters = kernel.shape
    at_once = 4 if filters <= _FEW else 2
    (top, bottom), (left, right) = padding
    rows = x.shape[1] + top + bottom - height + 1
    columns = x.shape[2] + left + right - width + 1
    # Cells of `at_once` columns; a result needs its own cell and some to the right.
    cells, further = -(-columns // at_once), -(-(width - 1) // at_once)
    right += (cells + further) * at_once - (columns + width - 1)
    x = _pad(x, ((top, bottom), (left, right)))
    x = x.reshape(*x.shape[:2], cells + further, at_once * channels)
    views = _taps(x, (height, further + 1), (rows, cells))
    seen = (further + 1) * at_once
    moved = [
        jnp.pad(kernel, ((0, 0), (j, seen - width - j), (0, 0), (0, 0)))
        for j in range(at_once)
    ]
    weights = jnp.stack(moved, axis=3).reshape(-1, at_once * filters)
    y = jnp.matmul(
        jnp.concatenate(views, axis=-1),
        weights,
        precision=precision,
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    )
    y = y.reshape(x.shape[0], rows, cells * at_once, filters)
    return y[:, :, :columns].astype(x.dtype)


def _few_filters(
    x: Array, kernel: Array, padding: Padding, precision: Precision
) -> Array:
    """Convolve to few filters by one product and shifted sums: 3 to 6 times faster."""
    height, width, channels, filters = kernel.shape
    taps = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    parts = jnp.matmul(x, taps, precision=precision, preferred_element_type=wide)
    parts = parts.reshape(*x.shape[:3], height, width, filters)
    (top, bottom), (left, right) = padding
    zero = jnp.zeros((), parts.dtype)
    total = zero
    for i in range(height):
        for j in range(width):
            rows = (top - i, bottom - (height - 1 - i), 0)
            columns = (left - j, right - (width - 1 - j), 0)
            around = ((0, 0, 0), rows, columns, (0, 0, 0))
            total += lax.pad(parts[:, :, :, i, j], zero, around)
    return total.astype(x.dtype)


def conv2d(
    x: Array, kernel: Array, padding: Padding = UNPADDED, precision: Precision = None
) -> Array:
    """Convolve without strides, to `[B, H - h + 1, W - w + 1, D]` plus the padding."""
    return _conv2d(x, kernel, padding, precision)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x: Array, kernel: Array, padding: Padding, precision: Precision) -> Array:
    """Convolve; `conv2d` wraps it because decorated functions lose their types."""
    return _convolve(x, kernel, padding, precision)


def _conv2d_fwd(
    x: Array, kernel: Array, padding: Padding, precision: Precision
) -> tuple[Array, tuple[Array, Array]]:
    """Convolve, and keep the operands."""
    return _convolve(x, kernel, padding, precision), (x, kernel)


def _conv2d_bwd(
    padding: Padding,
    precision: Precision,
    residuals: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    """Compute both gradients."""
    x, kernel = residuals
    around = [
        (size - 1 - before, size - 1 - after)
        for size, (before, after) in zip(kernel.shape, padding, strict=False)
    ]
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = _convolve(gradient, flipped, around, precision)
    return dx, _kernel_gradient(x, kernel, gradient, padding, precision)


def _kernel_gradient(
    x: Array, kernel: Array, gradient: Array, padding: Padding, precision: Precision
) -> Array:
    """Compute the gradient of the kernel by the fastest algorithm."""
    channels, filters = kernel.shape[2:]
    rows, columns = gradient.shape[1:3]
    if filters == 1:
        return _one_filter(x, kernel, gradient, padding, precision)
    known = isinstance(x.shape[0], int)
    if known and channels > 1 and rows * columns < _MANY_PIXELS:
        # As a convolution with the batch as channels and the channels as batch.
        x, gradient = x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
        return _convolve(x, gradient, padding, precision).transpose(1, 2, 0, 3)
    x = _pad(x, padding)
    if channels > 1:
        return _row_products(x, gradient, kernel.shape[:2], precision)
    product = partial(jnp.einsum, "tbhw,bhwd->td", precision=precision)
    taps = _taps(x[..., 0], kernel.shape[:2], (rows, columns))
    return product(jnp.stack(taps), gradient).reshape(kernel.shape)


def _pad(x: Array, padding: Padding) -> Array:
    """Pad rows and columns; negative numbers crop."""
    around = [(0, 0, 0), *((a, b, 0) for a, b in padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), around)


def _one_filter(
    x: Array, kernel: Array, gradient: Array, padding: Padding, precision: Precision
) -> Array:
    """Compute the gradient of a single filter from the windows of `gradient`."""
    size = kernel.shape[:2]
    around = [
        (side - 1 - before, side - 1 - after)
        for side, (before, after) in zip(size, padding, strict=True)
    ]
    taps = _taps(_pad(gradient, around)[..., 0], size, x.shape[1:3])
    total = jnp.einsum("bhwc,tbhw->tc", x, jnp.stack(taps[::-1]), precision=precision)
    return total.reshape(kernel.shape)


def _taps(x: Array, window: Sequence[int], size: Sequence[int]) -> list[Array]:
    """Return the pixels under each tap of a window on `[B, H, W, ...]`, row by row."""
    (height, width), (rows, columns) = window, size
    return [
        x[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)
    ]


def _row_products(
    x: Array, gradient: Array, window: Sequence[int], precision: Precision
) -> Array:
    """Compute the kernel's gradient by a product for each kernel row, in blocks.

    The images of a block fit into the cache. Products are fast if both matrices are
    stored by rows, so the gradient is transposed. Only wide products use several cores,
    so all taps of a row are in one product.
    """
    batch, rows, columns, filters = gradient.shape
    height, width = window
    channels = x.shape[-1]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    pixels = x.shape[1] * x.shape[2] * max(channels, filters)
    # Images per block: the most that divide the batch, if its size is known.
    most = min(batch, _BLOCK // pixels) if isinstance(batch, int) else 1
    size = max((n for n in range(1, most + 1) if batch % n == 0), default=1)

    def _add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        images, slopes = block
        slopes = slopes.transpose(3, 0, 1, 2).reshape(filters, -1)
        taps = [images[:, :, j : j + columns] for j in range(width)]
        taps = jnp.concatenate(taps, axis=-1)
        products = [
            jnp.matmul(
                slopes,
                taps[:, i : i + rows].reshape(-1, width * channels),
                precision=precision,
                preferred_element_type=wide,
            )
            for i in range(height)
        ]
        return total + jnp.stack(products), None

    blocks = jax.tree.map(
        lambda a: a.reshape(batch // size, size, *a.shape[1:]), (x, gradient)
    )
    zeros = jnp.zeros((height, filters, width * channels), wide)
    total, _ = lax.scan(_add, zeros, blocks)
    total = total.astype(x.dtype).reshape(height, filters, width, channels)
    return total.transpose(0, 2, 3, 1)


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)
