r"""AI-GAN: one generator for every target class, first taught by an attacker.

.. math:: L = L_{adv} + \lambda L_{GAN} + \gamma L_{hinge}, \qquad
    L_{adv} = \ell(f(x + G(x, t)), t)

Each step draws a class `t` other than the true one for each image and then is AdvGAN's
(`training.alternating`), with two notions of what the discriminator is to call
real. In stage one an attacker makes it, `A(x, t)`: the generator learns to look like
an attack that works. In stage two the attacker leaves and it is the clean `x`: the
perturbation shrinks. Both stages train one state.

With `models.TwoHeadDiscriminator` the discriminator also learns the true class `y` of
what is real, and the generator is asked to leave `y` to be seen in its images. With
stage one alone that is the method's later version, as far as it is known to us.

Deviations from the papers:
  * As in `training.advgan`: the margin on logits, averaged; tanh; a clip whose gradient
    points inwards.
  * The paper draws `t` at random; here it is never the true class, which is reached
    without a perturbation.
  * The later version's losses of the class are added to those of the first version;
    a `hinge_weight` of 0 leaves out what it does not have.
  * Weights and the epoch of the switch are not given; those of `configs/aigan.py` were
    measured.

References:
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196v1) and, for the two heads, its
  later version, 2021 (https://arxiv.org/abs/2002.02196).
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advgan_jax import losses, parallel
from advgan_jax.cpu.loops import in_blocks
from advgan_jax.projections import perturb
from advgan_jax.training.advgan import generator_loss, named_loss
from advgan_jax.training.gan import Networks, alternate
from advgan_jax.training.states import AIGANState, first_step, init_net
from advgan_jax.types import Array, Attack, Batch, LogitsFn, Metrics


class AIGANObjective(NamedTuple):
    """What AI-GAN minimises.

    Attributes:
      epsilon: L-infinity bound of the perturbation, in pixel units.
      num_classes: K.
      adversarial_loss: name, see `losses.ADVERSARIAL_LOSSES`.
      confidence: kappa of the margin loss, in logits.
      gan_loss: name, see `losses.GAN_LOSSES`.
      gan_weight: lambda.
      hinge_weight: gamma.
      hinge_bound: c, the L2 norm from which a perturbation costs.
      class_weight: of the discriminator's second head in the generator's loss.
    """

    epsilon: float
    num_classes: int
    adversarial_loss: str = "margin"
    confidence: float = 0.0
    gan_loss: str = "lsgan"
    gan_weight: float = 0.01
    hinge_weight: float = 0.01
    hinge_bound: float = 1.0
    class_weight: float = 0.0


def init_state(
    networks: Networks, key: Array, image_shape: tuple[int, int, int]
) -> AIGANState:
    """A fresh AI-GAN.

    Args:
      networks: modules and optimisers; the generator takes `(images, target_labels)`.
      key: typed PRNG key of the run.
      image_shape: (H, W, C).

    Returns:
      The state at step 0.
    """
    key_g, key_d, key_run = jax.random.split(key, 3)
    images = jnp.zeros((1, *image_shape), jnp.float32)
    classes = jnp.zeros((1,), jnp.int32)
    generator, _ = init_net(
        networks.generator, networks.generator_optimizer, key_g, images, classes
    )
    discriminator, _ = init_net(
        networks.discriminator, networks.discriminator_optimizer, key_d, images
    )
    return AIGANState(first_step(), key_run, generator, discriminator)


def draw_targets(key: Array, labels: Array, num_classes: int) -> Array:
    """A class for each image, uniform over those that are not its own.

    Args:
      key: typed PRNG key.
      labels: true classes, int `[B]`.
      num_classes: K, at least 2.

    Returns:
      int `[B]`.
    """
    away = jax.random.randint(key, labels.shape, 1, num_classes, labels.dtype)
    return (labels + away) % num_classes


def make_first_step(
    networks: Networks, objective: AIGANObjective, attacker: Attack
) -> Callable[..., tuple[AIGANState, Metrics]]:
    """Stage one: the discriminator takes the attacker's images for real.

    Args:
      networks: modules and optimisers.
      objective: losses, weights and bounds.
      attacker: a bound attack; runs on the target model, towards the classes that the
        generator is given.

    Returns:
      A pure `train_step(state, batch, target_logits_fn, *, axis_name=None) ->
      (state, metrics)`, with the metrics of AdvGAN's and, of two heads, `class_loss`;
      `success_rate` is the share of the batch that reaches its class.

    Raises:
      ValueError: for an unknown loss, or a confidence with a loss that has none.
    """

    def real(images, target_labels, target_logits_fn, key):
        return attacker(target_logits_fn, images, target_labels, key=key, targeted=True)

    return _make_step(networks, objective, real)


def make_second_step(
    networks: Networks, objective: AIGANObjective
) -> Callable[..., tuple[AIGANState, Metrics]]:
    """Stage two: the discriminator takes clean images for real.

    Args:
      networks: modules and optimisers.
      objective: losses, weights and bounds.

    Returns:
      A pure step, of the same form as that of `make_first_step`.

    Raises:
      ValueError: as `make_first_step`.
    """
    return _make_step(networks, objective, lambda images, *_: images)


def _make_step(
    networks: Networks, objective: AIGANObjective, real_fn: Callable
) -> Callable:
    gan_loss, _ = losses.gan_loss(objective.gan_loss)
    towards = partial(named_loss(objective), targeted=True)
    judge = _make_judge(networks.discriminator)

    def train_step(
        state: AIGANState,
        batch: Batch,
        target_logits_fn: LogitsFn,
        *,
        axis_name: str | None = None,
    ) -> tuple[AIGANState, Metrics]:
        clean, labels = batch
        key = jax.random.fold_in(state.key, state.step)
        key_targets, key_attacker = jax.random.split(
            parallel.fold_in_shard(key, axis_name)
        )
        wanted = draw_targets(key_targets, labels, objective.num_classes)
        real = real_fn(clean, wanted, target_logits_fn, key_attacker)

        def generate(params):
            r = networks.generator.apply({"params": params}, clean, wanted)
            return perturb(clean, r, objective.epsilon, (0.0, 1.0))

        def d_loss(params, adversarial):
            scores, class_loss = judge(params, real, labels)
            fake, _ = judge(params, adversarial, labels)
            return gan_loss(scores, fake) + sum(class_loss.values())

        def g_loss(adversarial, params):
            logits = target_logits_fn(adversarial)
            scores, class_loss = judge(params, adversarial, labels)
            total, parts = generator_loss(
                towards, objective, logits, wanted, scores, adversarial - clean
            )
            total += objective.class_weight * sum(class_loss.values())
            reached = jnp.mean(jnp.argmax(logits, axis=-1) == wanted)
            return total, parts | class_loss | {"success_rate": reached}

        return alternate(state, networks, generate, d_loss, g_loss, axis_name)

    return train_step


def _make_judge(discriminator: nn.Module) -> Callable:
    """One head or two as `(params, images, labels) -> (scores, loss by name)`."""

    def judge(params, images, labels):
        found = discriminator.apply({"params": params}, images)
        if not isinstance(found, tuple):
            return found, {}
        scores, logits = found
        return scores, {
            "class_loss": jnp.mean(losses.cross_entropy(logits, labels, targeted=True))
        }

    return judge


@cache
def make_generator_fn(generator: nn.Module) -> Callable[..., Array]:
    """The generator as a pure function, for `attacks.conditional_generator_attack`.

    Equal modules get the same function, so that `jit` does not trace it again.

    Args:
      generator: the module.

    Returns:
      `(params, images, target_labels) -> perturbations`; large batches pass in blocks
      on a CPU.
    """

    def generator_fn(params, images: Array, target_labels: Array) -> Array:
        apply = partial(generator.apply, {"params": params})
        return in_blocks(apply, images, target_labels)

    return generator_fn
