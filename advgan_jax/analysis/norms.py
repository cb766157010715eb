r"""Norms of linear layers: the largest factor by which they stretch an input.

Szegedy et al. bound a convolution by its transfer function. On a torus of `N x N`
pixels, a stride of `d` maps frequencies that differ by multiples of `N / d` to the same
one. The operator is therefore block diagonal, with one small matrix for each of the
remaining frequencies,

.. math:: \lVert W \rVert = \frac1d \max_\xi
    \big\lVert [\hat w_{d,c}(\xi + l N/d)]_{d,(c,l)} \big\rVert_2,

with the unnormalised Fourier transform `\hat w` of the kernel, one row for each output
map and one column for each input map and alias. With the factor 1/d the result equals
the norm of the dense matrix up to rounding. (The paper's last version prints `1/d^2`,
its first version no factor.)

A convolution with zero padding is a part of the convolution on a torus that contains
the padded image. The norm of the latter is a strict bound; the torus of the unpadded
image gives only an approximate one.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.3.
"""

import math
from collections.abc import Sequence

import numpy as np

_Pair = tuple[int, int]


def dense_norm(kernel: np.ndarray) -> float:
    """Return the largest singular value of a matrix `[I, O]`, in double precision."""
    return float(_norms(np.asarray(kernel, np.float64)))


def conv_norm(
    kernel: np.ndarray, *, strides: _Pair = (1, 1), grid: Sequence[int]
) -> float:
    """Return the norm of a convolution `[*grid, C] -> [*grid / strides, D]` on a torus.

    Args:
      kernel: `[h, w, C, D]`, real.
      strides: of rows and columns.
      grid: rows and columns of the torus, each a multiple of its stride.

    Raises:
      ValueError: if the grid is not a multiple of the strides.
    """
    if any(n % s or n < 1 for n, s in zip(grid, strides, strict=True)):
        raise ValueError(
            f"`grid` must be a multiple of the strides {tuple(strides)}, got "
            f"{tuple(grid)}; round it up, see `padded_grid`."
        )
    kernel = np.asarray(kernel, np.float64)
    rows, columns = (  # of the Fourier matrix, `[grid, taps]`
        np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(k)) / n)
        for n, k in zip(grid, kernel.shape, strict=False)
    )
    outputs = [n // s for n, s in zip(grid, strides, strict=True)]
    largest = 0.0
    # The kernel is real, so opposite frequencies have conjugate matrices.
    for first in range(outputs[0] // 2 + 1):
        part = np.tensordot(rows[first :: outputs[0]], kernel, axes=(1, 0))
        part = np.tensordot(part, columns, axes=(1, 1))
        aliases, channels, maps, _ = part.shape
        part = part.reshape(aliases, channels, maps, strides[1], outputs[1])
        matrices = part.transpose(4, 2, 0, 1, 3).reshape(outputs[1], maps, -1)
        largest = max(largest, float(_norms(matrices).max()))
    return largest / math.sqrt(math.prod(strides))


def padded_grid(
    size: Sequence[int], padding: Sequence[_Pair], strides: _Pair
) -> tuple[int, ...]:
    """Return rows and columns of the smallest torus that contains a zero-padded image.

    They are multiples of the strides. No window wraps around this torus, so the norm on
    it bounds the norm with zero padding; `padding` gives the zeros before and after the
    rows and the columns.
    """
    whole = [n + sum(pads) for n, pads in zip(size, padding, strict=True)]
    return tuple(-(-n // s) * s for n, s in zip(whole, strides, strict=True))


def dilate(kernel: np.ndarray, dilation: _Pair) -> np.ndarray:
    """Return a kernel `[h, w, C, D]` with zeros between its taps."""
    height, width = (
        (k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)
    )
    spread = np.zeros((height, width, *kernel.shape[2:]), kernel.dtype)
    spread[:: dilation[0], :: dilation[1]] = kernel
    return spread


def _norms(matrices: np.ndarray) -> np.ndarray:
    """Return the largest singular values of matrices `[..., m, n]`."""
    adjoint = matrices.conj().swapaxes(-1, -2)
    wide = matrices.shape[-2] <= matrices.shape[-1]
    gram = matrices @ adjoint if wide else adjoint @ matrices
    # Squaring loses half the digits of small singular values, none of the largest.
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., -1], 0))
