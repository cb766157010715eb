r"""AdvGAN: a generator trained to fool a frozen classifier and a discriminator.

.. math:: L = L_{adv} + \alpha L_{GAN} + \beta L_{hinge}

One step updates the discriminator on clean against perturbed images, and then the
generator against the new discriminator (`training.gan`).

Deviations from the paper:
  * `L_adv` is by default the margin on logits, with a kappa of the right sign (see
    `losses.margin`). It is averaged over the batch; sums, as in most public code, make
    the weights depend on the batch size.
  * A tanh in the generator bounds the perturbation. The sum is clipped to the pixel
    range with a gradient that still points inwards (`projections.perturb`).

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.projections import perturb
from advgan_jax.training.gan import Networks, alternate, init_networks
from advgan_jax.training.states import AdvGANState, apply
from advgan_jax.types import Array, Batch, LogitsFn, Metrics, Params

LossFn = Callable[[Array, Array], Array]


class AdvGANObjective(NamedTuple):
    """The loss that AdvGAN minimises, and the bound of its perturbations.

    The paper gives no weights; the defaults, those of `configs/advgan.py`, were
    measured.

    Attributes:
      epsilon: L-infinity bound of the perturbation, in pixel units.
      target_class: the class to reach; None for untargeted.
      adversarial_loss: name, see `losses.ADVERSARIAL_LOSSES`.
      confidence: kappa of the margin loss, in logits; other losses require 0.
      gan_loss: name, see `losses.GAN_LOSSES`.
      gan_weight: alpha.
      hinge_weight: beta.
      hinge_bound: c, the L2 norm above which a perturbation is penalised.
    """

    epsilon: float
    target_class: int | None = None
    adversarial_loss: str = "margin"
    confidence: float = 10.0
    gan_loss: str = "lsgan"
    gan_weight: float = 0.1
    hinge_weight: float = 0.1
    hinge_bound: float = 1.0


def init_state(
    networks: Networks, key: Array, image_shape: tuple[int, int, int]
) -> AdvGANState:
    """Initialise an AdvGAN at step 0; see `gan.init_networks`."""
    return AdvGANState(*init_networks(networks, key, image_shape))


def named_loss(objective: Any) -> Callable[..., Array]:
    """Look up an objective's `adversarial_loss`, and bind its confidence if it has one.

    Raises `ValueError` if the loss is unknown, or has no confidence but one is given.
    """
    loss = losses.adversarial_loss(objective.adversarial_loss)
    if objective.adversarial_loss == "margin":
        return partial(loss, confidence=objective.confidence)
    if objective.confidence != 0:
        raise ValueError(
            f"`confidence` belongs to the margin loss, got {objective.confidence} "
            f"with {objective.adversarial_loss!r}; set it to 0."
        )
    return loss


def make_adversarial_loss(objective: AdvGANObjective) -> LossFn:
    """Bind `L_adv` as `(logits [B, K], labels [B]) -> loss [B]`; see `named_loss`."""
    loss = named_loss(objective)
    target_class = objective.target_class
    if target_class is None:
        return partial(loss, targeted=False)

    def _targeted_loss(logits: Array, labels: Array) -> Array:
        target_labels = jnp.full_like(labels, target_class)
        return loss(logits, target_labels, targeted=True)

    return _targeted_loss


def generator_loss(
    adversarial_loss: LossFn,
    objective: Any,
    logits: Array,
    labels: Array,
    scores: Array,
    perturbation: Array,
) -> tuple[Array, Metrics]:
    r"""Compute the generator's loss and its unweighted parts.

    .. math:: L = \overline{\ell_{adv}} + \alpha L_{GAN} + \beta
        \overline{\ell_{hinge}}

    `logits` `[B, K]` of the target model and `scores` `[B]` of the discriminator are on
    the adversarial images. `labels` are AI-GAN's target classes, else the true ones.
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
    networks: Networks, objective: AdvGANObjective
) -> Callable[..., tuple[AdvGANState, Metrics]]:
    """Make the alternating step: the discriminator, then the generator.

    Returns:
      A pure `train_step(state, batch, target_logits_fn, *, axis_name=None)`. Its
      metrics are `discriminator_loss`, `generator_loss` and its parts, and
      `success_rate`, the share of the batch on which the attack succeeds.

    Raises:
      ValueError: as `named_loss`.
    """
    discriminator_loss, _ = losses.gan_loss(objective.gan_loss)
    adversarial_loss = make_adversarial_loss(objective)

    def _score(params: Params, images: Array) -> Array:
        return apply(networks.discriminator, params, images)

    def train_step(
        state: AdvGANState,
        batch: Batch,
        target_logits_fn: LogitsFn,
        *,
        axis_name: str | None = None,
    ) -> tuple[AdvGANState, Metrics]:
        """Make one step."""
        clean, labels = batch

        def _generate(params: Params) -> Array:
            return perturb_images(networks.generator, params, clean, objective.epsilon)

        def _d_loss(params: Params, adversarial: Array) -> Array:
            return discriminator_loss(
                _score(params, clean), _score(params, adversarial)
            )

        def _g_loss(adversarial: Array, params: Params) -> tuple[Array, Metrics]:
            logits, scores = target_logits_fn(adversarial), _score(params, adversarial)
            total, parts = generator_loss(
                adversarial_loss, objective, logits, labels, scores, adversarial - clean
            )
            predictions = jnp.argmax(logits, axis=-1)
            if objective.target_class is None:
                success = predictions != labels
            else:
                success = predictions == objective.target_class
            return total, {**parts, "success_rate": jnp.mean(success)}

        return alternate(state, networks, _generate, _d_loss, _g_loss, axis_name)

    return train_step


def perturb_images(
    generator: nn.Module, params: Params, images: Array, epsilon: float
) -> Array:
    """Perturb images `[B, H, W, C]` with a generator.

    The images are in [0, 1], and so is the result. No pixel changes by more than
    `epsilon`.
    """
    return perturb(images, apply(generator, params, images), epsilon, (0.0, 1.0))
