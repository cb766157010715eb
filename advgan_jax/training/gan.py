"""The common part of AdvGAN and AI-GAN: the discriminator's step, then the generator's.

Both steps use the same generated images. The generator runs forward once, which is
exact because its weights do not change in between.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from advgan_jax import parallel
from advgan_jax.training.states import AdvGANState, ModelState, first_step, init_model
from advgan_jax.types import Array, Metrics, Params


class Networks(NamedTuple):
    """The two modules and their optimisers.

    The generator maps images to perturbations, and AI-GAN's takes `(images,
    target_labels)`. The discriminator maps images to scores `[B]`.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation


def init_networks(
    networks: Networks, key: Array, image_shape: tuple[int, int, int], *others: Array
) -> tuple[Array, Array, ModelState, ModelState]:
    """Return the fields of a state at step 0; see `training` for the arguments.

    `others` are further inputs of the generator, for one image.
    """
    key_g, key_d, key_run = jax.random.split(key, 3)
    images = jnp.zeros((1, *image_shape), jnp.float32)
    generator, _ = init_model(
        networks.generator, networks.generator_optimizer, key_g, images, *others
    )
    discriminator, _ = init_model(
        networks.discriminator, networks.discriminator_optimizer, key_d, images
    )
    return first_step(), key_run, generator, discriminator


def alternate(
    state: AdvGANState,
    networks: Networks,
    generate: Callable[[Params], Array],
    discriminator_loss: Callable[[Params, Array], Array],
    generator_loss: Callable[[Array, Params], tuple[Array, Metrics]],
    axis_name: str | None,
) -> tuple[AdvGANState, Metrics]:
    """Update the discriminator, then the generator against the new discriminator.

    `generate` maps the generator's weights to adversarial images. The losses are
    functions of the discriminator's weights and these images; the generator's also
    returns metrics. Returns the next state, and the metrics with both losses.
    """
    adversarial, pull_back = jax.vjp(generate, state.generator.params)

    def _d_loss(params: Params) -> Array:
        return parallel.mean_over(discriminator_loss(params, adversarial), axis_name)

    loss, gradients = jax.value_and_grad(_d_loss)(state.discriminator.params)
    gradients = parallel.mean_over(gradients, axis_name)
    discriminator = state.discriminator.updated(
        gradients, networks.discriminator_optimizer
    )

    def _g_loss(adversarial: Array) -> tuple[Array, Metrics]:
        found = generator_loss(adversarial, discriminator.params)
        return parallel.mean_over(found, axis_name)

    (total, parts), gradient = jax.value_and_grad(_g_loss, has_aux=True)(adversarial)
    (gradients,) = pull_back(gradient)
    gradients = parallel.mean_over(gradients, axis_name)
    generator = state.generator.updated(gradients, networks.generator_optimizer)
    state = state.replace(
        step=state.step + 1, generator=generator, discriminator=discriminator
    )
    return state, {"discriminator_loss": loss, "generator_loss": total, **parts}
