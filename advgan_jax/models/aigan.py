r"""AI-GAN's generator and discriminator.

The generator is AdvGAN's, but each InstanceNorm has a scale and a shift for each target
class (FiLM). The discriminator may have two heads, for the source of an image and for
its class.

The papers do not specify how their generator receives the class. Other inputs reach the
same success (docs/experiments/aigan.md). FiLM works for any image size. InstanceNorm
cannot remove it, but it removes constant planes.

References:
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196).
"""

import flax.linen as nn
import jax.numpy as jnp

from advgan_jax.cpu.layers import Dense
from advgan_jax.models.advgan import encode_decode, score_features
from advgan_jax.types import Array


class ConditionalNorm(nn.Module):
    """InstanceNorm with a scale and a shift for each class (FiLM)."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array, classes: Array) -> Array:
        """Normalise features `[B, H, W, C]` of the class ids `[B]`."""
        table = lambda init, name: nn.Embed(  # noqa: E731
            self.num_classes, x.shape[-1], embedding_init=init, name=name
        )
        scale = table(nn.initializers.ones, "scale")(classes)
        shift = table(nn.initializers.zeros, "shift")(classes)
        x = nn.InstanceNorm(use_scale=False, use_bias=False)(x)
        return x * scale[:, None, None] + shift[:, None, None]


class ConditionalGenerator(nn.Module):
    r"""A perturbation for each image and class: :math:`r = \epsilon \tanh(h(x, t))`.

    `num_classes` is K; see `models.Generator` for the other attributes.
    """

    epsilon: float
    num_classes: int
    widths: tuple[int, int, int] = (8, 16, 32)
    num_residual: int = 4

    @nn.compact
    def __call__(self, images: Array, target_labels: Array) -> Array:
        """Map images `[B, H, W, C]` and class ids `[B]` to perturbations."""
        # Called inside a residual block, it creates a norm of that block.
        norm = lambda y: ConditionalNorm(self.num_classes)(y, target_labels)  # noqa: E731
        logits = encode_decode(
            2 * images - 1, self.widths, self.num_residual, images.shape[-1], norm
        )
        return self.epsilon * jnp.tanh(logits)


class TwoHeadDiscriminator(nn.Module):
    """A score for each image, and a prediction of its true class.

    `num_classes` is K; see `models.Discriminator` for `widths`.
    """

    num_classes: int
    widths: tuple[int, ...] = (8, 16, 32)

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Map images `[B, H, W, C]` to scores `[B]` and class logits `[B, K]`."""
        features = score_features(images, self.widths)
        return Dense(1)(features)[:, 0], Dense(self.num_classes)(features)
