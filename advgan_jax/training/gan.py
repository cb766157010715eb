"""What the adversarial methods share: the discriminator moves, then the generator.

Both use the same generated images: the generator runs forward once, which is exact, for
its weights do not change between.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax
import optax

from advgan_jax import parallel
from advgan_jax.training.states import AdvGANState
from advgan_jax.types import Array, Metrics, Params

State = TypeVar("State", bound=AdvGANState)


class Networks(NamedTuple):
    """The two modules and their optimisers.

    Attributes:
      generator: `images -> perturbations`.
      discriminator: `images -> scores [B]`.
      generator_optimizer: of the generator.
      discriminator_optimizer: of the discriminator.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation


def alternate(
    state: State,
    networks: Networks,
    generate: Callable[[Params], Array],
    discriminator_loss: Callable[[Params, Array], Array],
    generator_loss: Callable[[Array, Params], tuple[Array, Metrics]],
    axis_name: str | None,
) -> tuple[State, Metrics]:
    """Moves the discriminator, then the generator against the discriminator moved.

    Args:
      state: with `step`, `generator` and `discriminator`.
      networks: their optimisers.
      generate: from the generator's weights to adversarial images.
      discriminator_loss: of its weights and (constant) adversarial images.
      generator_loss: of adversarial images and the discriminator's weights, with what
        is logged.
      axis_name: over which losses and gradients are averaged.

    Returns:
      The state one step on, and the metrics: both losses and what is logged.
    """
    adversarial, pull_back = jax.vjp(generate, state.generator.params)

    def d_loss(params):
        return parallel.mean_over(discriminator_loss(params, adversarial), axis_name)

    loss, gradients = jax.value_and_grad(d_loss)(state.discriminator.params)
    gradients = parallel.mean_over(gradients, axis_name)
    discriminator = state.discriminator.updated(
        gradients, networks.discriminator_optimizer
    )

    def g_loss(adversarial):
        found = generator_loss(adversarial, discriminator.params)
        return parallel.mean_over(found, axis_name)

    (total, parts), gradient = jax.value_and_grad(g_loss, has_aux=True)(adversarial)
    (gradients,) = pull_back(gradient)
    gradients = parallel.mean_over(gradients, axis_name)
    generator = state.generator.updated(gradients, networks.generator_optimizer)
    state = state.replace(
        step=state.step + 1, generator=generator, discriminator=discriminator
    )
    return state, {"discriminator_loss": loss, "generator_loss": total, **parts}
