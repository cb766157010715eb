"""A convolution without strides, and its gradients as such convolutions too.

XLA on CPU has several ways to compute one, of very different speed; which it takes
hangs on details of the padding and the channels. All that is here exists to get the
fast ones.
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
UNPADDED = ((0, 0), (0, 0))
_FEW = 8
# By channels, up to where XLA's own is slower than `_few_channels`.
_MOST_FILTERS = {1: 16, 2: 32, 3: 32}
_MANY_PIXELS = 64
_BLOCK = 2**18  # floats, a megabyte


def _convolve(
    x: Array, kernel: Array, padding: Sequence[Pair], precision: lax.PrecisionLike
) -> Array:
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


def _extra_columns(x: Array, kernel: Array, padding: Sequence[Pair]) -> int:
    """Columns to compute and cut off, because of how XLA treats what is little padded.

    Without padding it takes a path up to three times as long as the one that any
    padding leads to. And only a padding as wide as the kernel, of rows or of columns,
    leads to one that uses several cores, which is worth it from about 10^8 products,
    if a device has several.
    """
    height, width, channels, filters = kernel.shape
    if channels == 1:
        return 0  # its paths are equally fast
    rows, columns = map(sum, padding)
    least = int(tuple(padding) == UNPADDED)
    if not isinstance(x.shape[0], int):
        return least  # of an exported program nobody knows how large its batches are
    products = x.size * height * width * filters
    cores = num_cores() // jax.local_device_count()
    if products > 1e8 and cores > 1 and rows < height:
        return max(0, width - columns)
    return least


def _few_channels(x, kernel, padding, precision):
    """The same as a product that makes several columns at once: 2 to 6 times faster.

    Columns side by side look at nearly the same pixels, and what a kernel of so few
    channels sees is otherwise too short for a product.
    """
    height, width, channels, filters = kernel.shape
    at_once = 4 if filters <= _FEW else 2
    (top, bottom), (left, right) = padding
    rows = x.shape[1] + top + bottom - height + 1
    columns = x.shape[2] + left + right - width + 1
    # Cells of so many columns; a cell of the result sees itself and some to its right.
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


def _few_filters(x, kernel, padding, precision):
    """The same as one product, and a sum of its shifted parts: 3 to 6 times faster."""
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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(
    x: Array,
    kernel: Array,
    padding: Sequence[Pair] = UNPADDED,
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
    return dx, _kernel_gradient(x, kernel, gradient, padding, precision)


def _kernel_gradient(x, kernel, gradient, padding, precision):
    channels, filters = kernel.shape[2:]
    rows, columns = gradient.shape[1:3]
    if filters == 1:
        return _one_filter(x, kernel, gradient, padding, precision)
    known = isinstance(x.shape[0], int)
    if known and channels > 1 and rows * columns < _MANY_PIXELS:
        # The batch plays the part of the input channels, and C that of the batch.
        x, gradient = x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
        return _convolve(x, gradient, padding, precision).transpose(1, 2, 0, 3)
    x = _pad(x, padding)
    if channels > 1:
        return _row_products(x, gradient, kernel.shape[:2], precision)
    product = partial(jnp.einsum, "tbhw,bhwd->td", precision=precision)
    taps = _taps(x[..., 0], kernel.shape[:2], (rows, columns))
    return product(jnp.stack(taps), gradient).reshape(kernel.shape)


def _pad(x: Array, padding: Sequence[Pair]) -> Array:
    around = [(0, 0, 0), *((a, b, 0) for a, b in padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), around)


def _one_filter(x, kernel, gradient, padding, precision):
    """The taps are the gradient's, last one first, for that has the one channel."""
    size = kernel.shape[:2]
    around = [
        (side - 1 - before, side - 1 - after)
        for side, (before, after) in zip(size, padding, strict=True)
    ]
    taps = _taps(_pad(gradient, around)[..., 0], size, x.shape[1:3])
    total = jnp.einsum("bhwc,tbhw->tc", x, jnp.stack(taps[::-1]), precision=precision)
    return total.reshape(kernel.shape)


def _taps(x: Array, window: Pair, size: Pair) -> list[Array]:
    """What each tap of a window sees of `[B, H, W, ...]`, row by row."""
    (height, width), (rows, columns) = window, size
    return [
        x[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)
    ]


def _row_products(x, gradient, window, precision):
    """The kernel's gradient as a product for each of its rows, some images at a time.

    The images of a block fit into the cache. Only products of two matrices that both
    lie row by row are fast, so it is the gradient that is transposed; and only wide
    ones use several cores, so the taps of a row share one.
    """
    batch, rows, columns, filters = gradient.shape
    height, width = window
    channels = x.shape[-1]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    pixels = x.shape[1] * x.shape[2] * max(channels, filters)
    # A step of some images each time, as many as divide the batch if that is known.
    most = min(batch, _BLOCK // pixels) if isinstance(batch, int) else 1
    size = max((n for n in range(1, most + 1) if batch % n == 0), default=1)

    def add(total, block):
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
    total, _ = lax.scan(add, zeros, blocks)
    total = total.astype(x.dtype).reshape(height, filters, width, channels)
    return total.transpose(0, 2, 3, 1)


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)
