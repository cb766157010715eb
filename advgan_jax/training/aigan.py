r"""AI-GAN: one generator for every target class, trained first with an attacker.

.. math:: L = L_{adv} + \lambda L_{GAN} + \gamma L_{hinge}, \qquad
    L_{adv} = \ell(f(x + G(x, t)), t)

Each step draws a class `t` other than the true one for each image, and continues as
AdvGAN's (`training.gan`). The two stages differ in the images that the discriminator
learns to call real. In stage one they are an attacker's, `A(x, t)`: the generator
learns to imitate a successful attack. In stage two they are the clean `x`: the
perturbation shrinks. Both stages train one state.

With `models.TwoHeadDiscriminator`, the discriminator also learns the true class `y` of
real images, and the generator learns to keep `y` recognisable. Stage one alone with two
heads is, to our knowledge, the method's later version.

Deviations from the papers:
  * As in `training.advgan`: the margin on logits, averaged; tanh; a clip whose gradient
    points inwards.
  * The paper draws `t` from all classes. Here it is never the true class, which needs
    no perturbation.
  * The later version's losses of the class are added to those of the first version.
    `hinge_weight = 0` gives the later version alone.
  * The papers give neither weights nor the epoch of the switch; those of
    `configs/aigan.py` were measured.

References:
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196v1) and, for the two heads, its
  later version, 2021 (https://arxiv.org/abs/2002.02196).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advgan_jax import losses, parallel
from advgan_jax.projections import perturb
from advgan_jax.training.advgan import generator_loss, named_loss
from advgan_jax.training.gan import Networks, alternate, init_networks
from advgan_jax.training.states import AdvGANState, apply
from advgan_jax.types import Array, Attack, Batch, LogitsFn, Metrics, Params

Step = Callable[..., tuple[AdvGANState, Metrics]]


class AIGANObjective(NamedTuple):
    """The loss that AI-GAN minimises; see `AdvGANObjective` for the shared attributes.

    The defaults are those of `configs/aigan.py:mnist`; on digits that configuration has
    a confidence of 3 and a `gan_weight` of 0.3.

    Attributes:
      num_classes: K.
      gan_weight: lambda.
      hinge_weight: gamma.
      class_weight: weight of the second head's loss in the generator's.
    """

    epsilon: float
    num_classes: int
    adversarial_loss: str = "margin"
    confidence: float = 10.0
    gan_loss: str = "lsgan"
    gan_weight: float = 0.1
    hinge_weight: float = 0.1
    hinge_bound: float = 1.0
    class_weight: float = 1.0


def init_state(
    networks: Networks, key: Array, image_shape: tuple[int, int, int]
) -> AdvGANState:
    """Initialise an AI-GAN at step 0; see `gan.init_networks`."""
    classes = jnp.zeros((1,), jnp.int32)
    return AdvGANState(*init_networks(networks, key, image_shape, classes))


def draw_targets(key: Array, labels: Array, num_classes: int) -> Array:
    """Draw a target class for each label, uniformly among the other classes."""
    away = jax.random.randint(key, labels.shape, 1, num_classes, labels.dtype)
    return (labels + away) % num_classes


def make_first_step(
    networks: Networks, objective: AIGANObjective, attacker: Attack
) -> Step:
    """Make the step of stage one, where the attacker's images are real.

    `attacker` attacks the target model with the same target classes as the generator.

    Returns:
      A pure `train_step(state, batch, target_logits_fn, *, axis_name=None)`. Its
      metrics are AdvGAN's and, with two heads, `class_loss`; `success_rate` is the
      share of the batch classified as its target class.

    Raises:
      ValueError: as `advgan.named_loss`.
    """

    def _real_fn(
        images: Array, target_labels: Array, target_logits_fn: LogitsFn, key: Array
    ) -> Array:
        return attacker(target_logits_fn, images, target_labels, key=key, targeted=True)

    return _make_step(networks, objective, _real_fn)


def make_second_step(networks: Networks, objective: AIGANObjective) -> Step:
    """Make the step of stage two, where clean images are real; see stage one."""
    return _make_step(networks, objective, lambda images, *_: images)


def _make_step(
    networks: Networks, objective: AIGANObjective, real_fn: Callable[..., Array]
) -> Step:
    """Make the step of either stage."""
    gan_loss, _ = losses.gan_loss(objective.gan_loss)
    adversarial_loss = partial(named_loss(objective), targeted=True)
    judge = _make_judge(networks.discriminator)

    def train_step(
        state: AdvGANState,
        batch: Batch,
        target_logits_fn: LogitsFn,
        *,
        axis_name: str | None = None,
    ) -> tuple[AdvGANState, Metrics]:
        """Make one step."""
        clean, labels = batch
        key = jax.random.fold_in(state.key, state.step)
        key = parallel.fold_in_shard(key, axis_name)
        key_targets, key_attacker = jax.random.split(key)
        target_labels = draw_targets(key_targets, labels, objective.num_classes)
        real = real_fn(clean, target_labels, target_logits_fn, key_attacker)

        def _generate(params: Params) -> Array:
            r = apply(networks.generator, params, clean, target_labels)
            return perturb(clean, r, objective.epsilon, (0.0, 1.0))

        def _d_loss(params: Params, adversarial: Array) -> Array:
            scores, class_loss = judge(params, real, labels)
            fake, _ = judge(params, adversarial, labels)
            return gan_loss(scores, fake) + sum(class_loss.values())

        def _g_loss(adversarial: Array, params: Params) -> tuple[Array, Metrics]:
            logits = target_logits_fn(adversarial)
            scores, class_loss = judge(params, adversarial, labels)
            r = adversarial - clean
            total, parts = generator_loss(
                adversarial_loss, objective, logits, target_labels, scores, r
            )
            total += objective.class_weight * sum(class_loss.values())
            reached = jnp.mean(jnp.argmax(logits, axis=-1) == target_labels)
            return total, {**parts, **class_loss, "success_rate": reached}

        return alternate(state, networks, _generate, _d_loss, _g_loss, axis_name)

    return train_step


def _make_judge(discriminator: nn.Module) -> Callable[..., tuple[Array, Metrics]]:
    """Make `(params, images, labels) -> (scores, loss by name)` of one head or two."""

    def _judge(params: Params, images: Array, labels: Array) -> tuple[Array, Metrics]:
        found = apply(discriminator, params, images)
        if not isinstance(found, tuple):
            return found, {}
        scores, logits = found
        class_loss = losses.cross_entropy(logits, labels, targeted=True)
        return scores, {"class_loss": jnp.mean(class_loss)}

    return _judge
