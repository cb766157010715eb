"""Residual target models for CIFAR-10: ResNet-32 and Wide-ResNet-34-10.

Deviations: shortcuts that change shape are 1x1 convolutions (He et al.'s option B),
where ResNet-32 pads with zeros. The model centres the pixels itself, so attacks stay in
[0, 1].

References:
  He et al., 2016 (https://arxiv.org/abs/1512.03385), Sec. 4.2;
  Zagoruyko & Komodakis, 2016 (https://arxiv.org/abs/1605.07146), Table 1.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from advgan_jax.cpu.layers import Conv, Dense
from advgan_jax.types import Array


def _batch_norm(train: bool, axis_name: str | None) -> Callable[..., nn.BatchNorm]:
    """Return the constructor of the normalisation."""
    return partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        axis_name=axis_name if train else None,
    )


class _Block(nn.Module):
    """Two 3x3 convolutions with a shortcut, plain or pre-activated."""

    width: int
    stride: int
    preactivated: bool
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        norm = _batch_norm(train, self.axis_name)
        conv = partial(Conv, self.width, (3, 3), use_bias=False)
        shortcut, y = x, x
        if self.preactivated:
            y = nn.relu(norm()(x))
        if self.stride != 1 or x.shape[-1] != self.width:
            entry = y if self.preactivated else x
            shortcut = Conv(self.width, (1, 1), self.stride, use_bias=False)(entry)
        y = nn.relu(norm()(conv(strides=self.stride)(y)))
        y = conv()(y)
        return shortcut + y if self.preactivated else nn.relu(shortcut + norm()(y))


class ResNet(nn.Module):
    """A residual model for small images: three stages of equal blocks.

    Each stage has its filters in `widths`. The depth is `6 * blocks + 2` or, with
    normalisation before each convolution (`preactivated`), `6 * blocks + 4`. Training
    averages batch statistics over the device axis `axis_name`.
    """

    num_classes: int = 10
    blocks: int = 5
    widths: tuple[int, int, int] = (16, 32, 64)
    preactivated: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Map images `[B, H, W, C]` to logits `[B, K]`."""
        norm = _batch_norm(train, self.axis_name)
        x = Conv(16, (3, 3), use_bias=False)((images - 0.5) / 0.25)
        if not self.preactivated:
            x = nn.relu(norm()(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _Block(width, stride, self.preactivated, self.axis_name)(x, train)
        if self.preactivated:
            x = nn.relu(norm()(x))
        return Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))
