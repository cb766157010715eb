"""Target models: the convolutional and fully connected models that the papers attack.

A and B are Tramèr's; C is Carlini and Wagner's (AdvGAN's "Model C" is not Tramèr's).
All map images in [0, 1], `[B, H, W, C]`, to logits `[B, K]`. Dropout is active only
with `train=True`, so an attacked model is the same function in every call.

References:
  Tramèr et al., 2018 (https://arxiv.org/abs/1705.07204), Appendix;
  Carlini & Wagner, 2017 (https://arxiv.org/abs/1608.04644), Table I;
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Sec. 5;
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from advgan_jax.cpu.layers import Conv, Dense, max_pool
from advgan_jax.types import Array


def _flatten(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


def _check_size(images: Array, least: int, model: str) -> None:
    """Reject images too small for a model."""
    if min(images.shape[1:3]) < least:
        raise ValueError(
            f"Model {model} needs images of at least {least} by {least} pixels, got "
            f"{images.shape[1]} by {images.shape[2]}; use 'small' for small images."
        )


class ModelA(nn.Module):
    """Tramèr's A: two 5x5 convolutions of 64 filters, a hidden layer of 128 units."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Return logits."""
        _check_size(images, 9, "A")
        x = nn.relu(Conv(64, (5, 5), padding="VALID")(images))
        x = nn.relu(Conv(64, (5, 5), padding="VALID")(x))
        x = _flatten(nn.Dropout(0.25, deterministic=not train)(x))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(Dense(128)(x)))
        return Dense(self.num_classes)(x)


class ModelB(nn.Module):
    """Tramèr's B: dropout on the input, three wide convolutions, no hidden layer."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Return logits."""
        _check_size(images, 27, "B")
        x = nn.Dropout(0.2, deterministic=not train)(images)
        x = nn.relu(Conv(64, (8, 8), strides=2, padding="SAME")(x))
        x = nn.relu(Conv(128, (6, 6), strides=2, padding="VALID")(x))
        x = nn.relu(Conv(128, (5, 5), padding="VALID")(x))
        x = _flatten(nn.Dropout(0.5, deterministic=not train)(x))
        return Dense(self.num_classes)(x)


class ModelC(nn.Module):
    """Carlini and Wagner's: 32, 32, pool, 64, 64, pool, two hidden layers of 200.

    Their CIFAR model has the `widths` (64, 128) and 256 `hidden` units.
    """

    num_classes: int = 10
    widths: tuple[int, int] = (32, 64)
    hidden: int = 200

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Return logits."""
        _check_size(images, 16, "C")
        x = images
        for width in self.widths:
            for _ in range(2):
                x = nn.relu(Conv(width, (3, 3), padding="VALID")(x))
            x = max_pool(x, 2)
        x = nn.relu(Dense(self.hidden)(_flatten(x)))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        x = nn.relu(Dense(self.hidden)(x))
        return Dense(self.num_classes)(x)


class MadryNet(nn.Module):
    """Madry's, of the MNIST challenge: 5x5 convolutions of 32 and 64, a layer of 1024.

    The initial weights are Flax's; the challenge's have a deviation of 0.1.
    """

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Return logits."""
        del train
        _check_size(images, 4, "madry")
        x = max_pool(nn.relu(Conv(32, (5, 5))(images)), 2)
        x = max_pool(nn.relu(Conv(64, (5, 5))(x)), 2)
        x = nn.relu(Dense(1024)(_flatten(x)))
        return Dense(self.num_classes)(x)


class SmallNet(nn.Module):
    """A small model for small images, such as the 8x8 digits."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Return logits."""
        x = nn.relu(Conv(32, (3, 3))(images))
        x = max_pool(nn.relu(Conv(64, (3, 3))(x)), 2)
        x = nn.relu(Dense(128)(_flatten(x)))
        x = nn.Dropout(0.25, deterministic=not train)(x)
        return Dense(self.num_classes)(x)


class FullyConnected(nn.Module):
    """Szegedy's models: hidden layers of sigmoids (or any other unit), then logits.

    `hidden` are their units; () is the linear softmax classifier. Training drops the
    share `dropout` of hidden units, and `input_dropout` of the pixels.
    """

    num_classes: int = 10
    hidden: Sequence[int] = ()
    activation: Callable[[Array], Array] = nn.sigmoid
    dropout: float = 0.0
    input_dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        images: Array,
        *,
        train: bool = False,
        first: int = 0,
        last: int | None = None,
    ) -> Array:
        """Map images `[B, H, W, C]` to logits `[B, K]`.

        Applies the layers from `first` (0 is the first hidden one) up to, not
        including, `last` (None: up to the logits). If `first` is not 0, `images` are
        the outputs of the layer before it, in any shape.
        """
        x = _flatten(jnp.asarray(images))
        sizes = (*self.hidden, self.num_classes)
        stop = len(sizes) if last is None else last
        if first == 0:
            x = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        for layer in range(first, stop):
            x = Dense(sizes[layer], name=f"Dense_{layer}")(x)
            if layer < len(self.hidden):
                x = self.activation(x)
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x
