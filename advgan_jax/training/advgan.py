r"""AdvGAN: a generator learns to fool a frozen classifier and a discriminator.

.. math:: L = L_{adv} + \alpha L_{GAN} + \beta L_{hinge}

One step updates the discriminator on clean against perturbed images and then the
generator against the new discriminator. Both use the same generated images: the
generator runs forward once, which is exact, for its weights do not change between.

Deviations from the paper:
  * `L_adv` is by default the margin on logits, averaged over the batch (sums, as in
    most public code, make the weights depend on the batch size), with a kappa of the
    right sign (see `losses.margin`).
  * The perturbation is bounded by a tanh in the generator, and the sum is clipped to
    the pixel range with a gradient that still points inwards (`projections.perturb`).

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from advgan_jax import losses, parallel
from advgan_jax.projections import perturb
from advgan_jax.training.states import AdvGANState, first_step, init_net
from advgan_jax.types import Array, Batch, LogitsFn, Metrics


class Objective(NamedTuple):
    """What AdvGAN minimises.

    Attributes:
      epsilon: L-infinity bound of the perturbation, in pixel units.
      target_class: the class to be reached; None for untargeted.
      adversarial_loss: name, see `losses.ADVERSARIAL_LOSSES`.
      confidence: kappa of the margin loss, in logits.
      gan_loss: name, see `losses.GAN_LOSSES`.
      gan_weight: alpha.
      hinge_weight: beta.
      hinge_bound: c, the L2 norm from which a perturbation costs.
    """

    epsilon: float
    target_class: int | None = None
    adversarial_loss: str = "margin"
    confidence: float = 0.0
    gan_loss: str = "lsgan"
    gan_weight: float = 0.01
    hinge_weight: float = 0.01
    hinge_bound: float = 1.0


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


def init_state(
    networks: Networks, key: Array, image_shape: tuple[int, int, int]
) -> AdvGANState:
    """A fresh AdvGAN.

    Args:
      networks: modules and optimisers.
      key: typed PRNG key of the run.
      image_shape: (H, W, C).

    Returns:
      The state at step 0.
    """
    key_g, key_d, key_run = jax.random.split(key, 3)
    images = jnp.zeros((1, *image_shape), jnp.float32)
    generator, _ = init_net(
        networks.generator, networks.generator_optimizer, key_g, images
    )
    discriminator, _ = init_net(
        networks.discriminator, networks.discriminator_optimizer, key_d, images
    )
    return AdvGANState(first_step(), key_run, generator, discriminator)


def make_adversarial_loss(objective: Objective) -> Callable[[Array, Array], Array]:
    """Binds `L_adv`: which loss, whether targeted, and at which class.

    Args:
      objective: what to minimise.

    Returns:
      `(logits [B, K], labels [B]) -> loss [B]`; targeted, the labels are not used.

    Raises:
      ValueError: for an unknown loss, or a confidence with a loss that has none.
    """
    loss = losses.adversarial_loss(objective.adversarial_loss)
    if objective.adversarial_loss == "margin":
        loss = partial(loss, confidence=objective.confidence)
    elif objective.confidence != 0:
        raise ValueError(
            f"`confidence` belongs to the margin loss, got {objective.confidence} "
            f"with {objective.adversarial_loss!r}; set it to 0."
        )
    if objective.target_class is None:
        return partial(loss, targeted=False)

    def towards(logits: Array, labels: Array) -> Array:
        wanted = jnp.full_like(labels, objective.target_class)
        return loss(logits, wanted, targeted=True)

    return towards


def generator_loss(
    adversarial_loss: Callable[[Array, Array], Array],
    objective: Objective,
    logits: Array,
    labels: Array,
    scores: Array,
    perturbation: Array,
) -> tuple[Array, Metrics]:
    r"""The generator's objective and its parts.

    .. math:: L = \overline{\ell_{adv}} + \alpha L_{GAN} + \beta
        \overline{\ell_{hinge}}

    Args:
      adversarial_loss: from `make_adversarial_loss`.
      objective: the weights and the bound c.
      logits: the target model's, on the adversarial images, `[B, K]`.
      labels: true classes, `[B]`.
      scores: the discriminator's, on the adversarial images, `[B]`.
      perturbation: adversarial minus clean images, `[B, H, W, C]`.

    Returns:
      The total and its parts by name, unweighted.
    """
    _, gan = losses.gan_loss(objective.gan_loss)
    parts = {
        "adversarial_loss": jnp.mean(adversarial_loss(logits, labels)),
        "gan_loss": gan(scores),
        "hinge_loss": jnp.mean(losses.hinge(perturbation, bound=objective.hinge_bound)),
    }
    total = (
        parts["adversarial_loss"]
        + objective.gan_weight * parts["gan_loss"]
        + objective.hinge_weight * parts["hinge_loss"]
    )
    return total, parts


def make_train_step(
    networks: Networks, objective: Objective
) -> Callable[..., tuple[AdvGANState, Metrics]]:
    """The alternating step: the discriminator, then the generator.

    Args:
      networks: modules and optimisers.
      objective: losses, weights and bounds.

    Returns:
      A pure `train_step(state, batch, target_logits_fn, *, axis_name=None) ->
      (state, metrics)`; the frozen target model is an argument. Metrics are means over
      the batch: `discriminator_loss`, `generator_loss` and its parts, and
      `success_rate`, the share of the batch that fools the target model.
    """
    update_discriminator = _make_discriminator_update(networks, objective)
    differentiate = _make_generator_gradient(networks, objective)

    def train_step(
        state: AdvGANState,
        batch: Batch,
        target_logits_fn: LogitsFn,
        *,
        axis_name: str | None = None,
    ) -> tuple[AdvGANState, Metrics]:
        def generate(params):
            r = networks.generator.apply({"params": params}, batch.images)
            return perturb(batch.images, r, objective.epsilon, (0.0, 1.0))

        adversarial, pull_back = jax.vjp(generate, state.generator.params)
        discriminator, d_loss = update_discriminator(
            state.discriminator, batch.images, adversarial, axis_name
        )
        (g_loss, parts), gradient = differentiate(
            adversarial, batch, discriminator.params, target_logits_fn, axis_name
        )
        (gradients,) = pull_back(gradient)
        gradients = parallel.mean_over(gradients, axis_name)
        generator = state.generator.updated(gradients, networks.generator_optimizer)
        state = state.replace(
            step=state.step + 1, generator=generator, discriminator=discriminator
        )
        metrics = {"discriminator_loss": d_loss, "generator_loss": g_loss, **parts}
        return state, metrics

    return train_step


def _make_discriminator_update(networks: Networks, objective: Objective) -> Callable:
    """The discriminator's step on clean and (constant) adversarial images."""
    gan_loss, _ = losses.gan_loss(objective.gan_loss)

    def update(state, clean, adversarial, axis_name):
        def loss_fn(params):
            score = partial(networks.discriminator.apply, {"params": params})
            loss = gan_loss(score(clean), score(adversarial))
            return parallel.mean_over(loss, axis_name)

        loss, gradients = jax.value_and_grad(loss_fn)(state.params)
        gradients = parallel.mean_over(gradients, axis_name)
        return state.updated(gradients, networks.discriminator_optimizer), loss

    return update


def _make_generator_gradient(networks: Networks, objective: Objective) -> Callable:
    """The generator's loss with its gradient in the adversarial images."""
    adversarial_loss = make_adversarial_loss(objective)

    def loss_fn(adversarial, batch, params, target_logits_fn, axis_name):
        logits = target_logits_fn(adversarial)
        scores = networks.discriminator.apply({"params": params}, adversarial)
        total, parts = generator_loss(
            adversarial_loss,
            objective,
            logits,
            batch.labels,
            scores,
            adversarial - batch.images,
        )
        parts["success_rate"] = _success_rate(logits, batch.labels, objective)
        return parallel.mean_over((total, parts), axis_name)

    return jax.value_and_grad(loss_fn, has_aux=True)


def _success_rate(logits: Array, labels: Array, objective: Objective) -> Array:
    predictions = jnp.argmax(logits, axis=-1)
    if objective.target_class is None:
        return jnp.mean(predictions != labels)
    return jnp.mean(predictions == objective.target_class)


def make_generator_fn(generator: nn.Module) -> Callable[..., Array]:
    """The generator as a pure function, for `attacks.generator`.

    Args:
      generator: the module.

    Returns:
      `(params, images) -> perturbations`.
    """

    def generator_fn(params, images: Array) -> Array:
        return generator.apply({"params": params}, images)

    return generator_fn
