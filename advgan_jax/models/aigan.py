r"""AI-GAN's generator and discriminator.

The generator is AdvGAN's with another InstanceNorm: its scales and shifts are those of
the class to be reached (FiLM), after every convolution but the last. Chosen by
measurement: on the 8x8 digits (one seed, 10 + 30 epochs, the mean targeted success on
the test images) FiLM reached 94.8 %, a learned plane for each class beside the image
and FiLM 94.3 %, the classes' one-hot planes alone 94.4 %; after 10 + 20 epochs at a
tenth of the learning rate FiLM reached 90.5 %, one learned plane alone 90.6 %, four of
them 90.7 %, with FiLM 91.2 %. One seed does not tell these apart; FiLM alone depends on
no image size, and cannot be normalised away: InstanceNorm takes out of constant planes
all but what the padding at the border leaves.

The second discriminator has two heads, for the source of an image and for its class.

Deviations from the paper: those of `models.advgan`; the papers do not say how their
generator is told the class.

References:
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196).
"""

import flax.linen as nn
import jax.numpy as jnp

from advgan_jax.cpu.layers import Dense
from advgan_jax.models.advgan import encode_decode, score_features
from advgan_jax.types import Array


class ConditionalNorm(nn.Module):
    """InstanceNorm whose scale and shift are those of each image's class (FiLM).

    Attributes:
      num_classes: K.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array, classes: Array) -> Array:
        """Features `[B, H, W, C]` and class ids `[B]` to features."""
        table = lambda init, name: nn.Embed(  # noqa: E731
            self.num_classes, x.shape[-1], embedding_init=init, name=name
        )
        scale = table(nn.initializers.ones, "scale")(classes)
        shift = table(nn.initializers.zeros, "shift")(classes)
        x = nn.InstanceNorm(use_scale=False, use_bias=False)(x)
        return x * scale[:, None, None] + shift[:, None, None]


class ConditionalGenerator(nn.Module):
    r"""A perturbation for each image and class: :math:`r = \epsilon \tanh(h(x, t))`.

    Attributes:
      epsilon: the L-infinity bound, in pixel units.
      num_classes: K.
      widths: filters at full, half and quarter size.
      num_residual: residual blocks at quarter size.
    """

    epsilon: float
    num_classes: int
    widths: tuple[int, int, int] = (8, 16, 32)
    num_residual: int = 4

    @nn.compact
    def __call__(self, images: Array, target_labels: Array) -> Array:
        """Images `[B, H, W, C]` and class ids `[B]` to perturbations, pixel units."""
        # Within a residual block it makes the norm one of that block.
        norm = lambda y: ConditionalNorm(self.num_classes)(y, target_labels)  # noqa: E731
        logits = encode_decode(
            2 * images - 1, self.widths, self.num_residual, images.shape[-1], norm
        )
        return self.epsilon * jnp.tanh(logits)


class TwoHeadDiscriminator(nn.Module):
    """A score for each image, and what it takes its true class to be.

    Attributes:
      num_classes: K.
      widths: filters of the 4x4 convolutions of stride 2.
    """

    num_classes: int
    widths: tuple[int, ...] = (8, 16, 32)

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Images `[B, H, W, C]` to scores `[B]` and class logits `[B, K]`."""
        features = score_features(images, self.widths)
        return Dense(1)(features)[:, 0], Dense(self.num_classes)(features)
