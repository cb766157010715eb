"""AdvGAN's generator and discriminator.

Generator (in the notation of Johnson et al.): c3s1-8, d16, d32, four r32, u16, u8,
c3s1-C. Discriminator: C8, C16, C32, one dense unit.

Deviations from the paper:
  * The last layer is `epsilon * tanh`. The paper prints a ReLU, which forbids negative
    perturbations, and clips afterwards, so clipped pixels have no gradient.
  * Images whose sides are not multiples of 4, or below 8, are padded by reflection, and
    the result is cropped.
  * The discriminator has no InstanceNorm on maps of a single pixel, where it would be
    identically zero.
  * The last convolution has small initial weights, so that training starts near the
    clean image, where the loss has a gradient.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 4 and appendix.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from advgan_jax.cpu.layers import Conv, Dense
from advgan_jax.types import Array

Norm = Callable[[Array], Array]


class _Residual(nn.Module):
    """Two 3x3 convolutions of the same width with a shortcut."""

    width: int

    @nn.compact
    def __call__(self, x: Array, norm: Norm) -> Array:
        y = nn.relu(norm(Conv(self.width, (3, 3), use_bias=False)(x)))
        return x + norm(Conv(self.width, (3, 3), use_bias=False)(y))


def encode_decode(
    inputs: Array,
    widths: tuple[int, int, int],
    num_residual: int,
    channels: int,
    norm: Norm = lambda x: nn.InstanceNorm()(x),
) -> Array:
    """Map `[B, H, W, D]` in [-1, 1] to unbounded `[B, H, W, channels]`.

    The layers belong to the calling module. `norm` follows each convolution but the
    last; see `Generator` for the other arguments.
    """
    height, width = inputs.shape[1:3]
    # At least two by two features at quarter size: InstanceNorm of one gives zero.
    rows, columns = (max(8, size + -size % 4) - size for size in (height, width))
    x = jnp.pad(inputs, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="reflect")
    full, half, quarter = widths
    conv = partial(Conv, kernel_size=(3, 3), use_bias=False)
    # A fractionally strided convolution: zeros between the pixels, 2 before 1.
    up = partial(conv, input_dilation=2, padding=((1, 2), (1, 2)))
    x = nn.relu(norm(conv(full)(x)))
    x = nn.relu(norm(conv(half, strides=2)(x)))
    x = nn.relu(norm(conv(quarter, strides=2)(x)))
    for _ in range(num_residual):
        x = _Residual(quarter)(x, norm)
    x = nn.relu(norm(up(half)(x)))
    x = nn.relu(norm(up(full)(x)))
    last = Conv(channels, (3, 3), kernel_init=nn.initializers.normal(0.02))
    return last(x)[:, :height, :width]


def score_features(images: Array, widths: tuple[int, ...]) -> Array:
    """Return features `[B, F]` of images in [0, 1], by the layers of discriminators."""
    x = 2 * images - 1
    for layer, width in enumerate(widths):
        x = Conv(width, (4, 4), strides=2)(x)
        if layer > 0 and x.shape[1] * x.shape[2] > 1:
            x = nn.InstanceNorm()(x)
        x = nn.leaky_relu(x, 0.2)
    return x.reshape(x.shape[0], -1)


class Generator(nn.Module):
    r"""A perturbation for each image: :math:`r = \epsilon \tanh(h(x))`.

    `widths` are the filters at full, half and quarter size, `num_residual` the residual
    blocks at quarter size.
    """

    epsilon: float
    widths: tuple[int, int, int] = (8, 16, 32)
    num_residual: int = 4

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Map images `[B, H, W, C]` to perturbations of this shape, in pixel units."""
        x, channels = 2 * images - 1, images.shape[-1]
        logits = encode_decode(x, self.widths, self.num_residual, channels)
        return self.epsilon * jnp.tanh(logits)


class Discriminator(nn.Module):
    """A score for each image: high for clean ones, low for perturbed ones.

    `widths` are the filters of the 4x4 convolutions of stride 2.
    """

    widths: tuple[int, ...] = (8, 16, 32)

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Map images `[B, H, W, C]` to scores `[B]`, unbounded (logits)."""
        return Dense(1)(score_features(images, self.widths))[:, 0]
