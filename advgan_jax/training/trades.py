r"""TRADES: a classifier whose answers may not change around its images.

Each step attacks its batch and then minimises, over the weights,

.. math:: J(x, y) + \beta\,D_{KL}(p(x) \Vert p(x_A))

where the attack maximises the divergence, whatever the class.

Deviations from the paper and its released code, beside those of `training.defences`:
  * The attack starts where it starts by itself, not at Gaussian noise of 0.001.
  * Batch normalisation sees clean and attacked images as one batch; the released code
    passes them one after the other, each normalised by itself.

References:
  Zhang et al., 2019 (https://arxiv.org/abs/1901.08573), Alg. 1, and
  https://github.com/yaodongyu/TRADES.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from advgan_jax.training import adversarial
from advgan_jax.types import Array, LogitsFn


def make_trades_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    crafting: adversarial.Crafting,
    *,
    divergence_weight: float = 6.0,
    label_smoothing: float = 0.0,
    augmentation: adversarial.Augmentation = adversarial.Augmentation(),  # noqa: B008 (immutable)
) -> adversarial.Step:
    r"""The step of TRADES, whose attack moves the answer, whatever the class.

    Args:
      model: as in `make_adversarial_step`, and so is all else.
      optimizer: that of the state.
      crafting: the attack. It needs a random start, as the divergence has no slope
        where it is zero, and one start alone, as all others than the clean image count
        as successes. Its `predicted_labels` mean nothing here.
      divergence_weight: :math:`\beta \ge 0`.
      label_smoothing: share of a label that is spread over all classes.
      augmentation: of the clean images.

    Returns:
      A pure `train_step(state, batch, *, axis_name=None)` with the metrics `loss`,
      `divergence`, `accuracy` and `robust_accuracy`.

    Raises:
      ValueError: if `divergence_weight` is negative.
    """
    if divergence_weight < 0:
        raise ValueError(
            f"`divergence_weight` must be at least 0, got {divergence_weight}."
        )

    def craft(logits_fn, batch, keys, step):
        away = diverging(logits_fn, batch.images)
        labels = jnp.zeros_like(batch.labels)
        return crafting(away, batch._replace(labels=labels), keys.own, step)

    def objective(clean, adversarial, labels):
        reference = jax.nn.log_softmax(clean)
        divergence = jnp.mean(_divergence(reference, adversarial))
        loss = adversarial.cross_entropy(clean, labels, label_smoothing)
        loss += divergence_weight * divergence
        return loss, {
            "divergence": divergence,
            "accuracy": adversarial.accuracy(clean, labels),
            "robust_accuracy": adversarial.accuracy(adversarial, labels),
        }

    return adversarial.make_step(
        model, optimizer, craft, adversarial.Objective(objective), augmentation
    )


def diverging(logits_fn: LogitsFn, images: Array) -> LogitsFn:
    r"""A model of two classes that leaves class 0 where the answers diverge.

    .. math:: x' \mapsto (-D_{KL}(p(x) \Vert p(x')),\ 0)

    Cross-entropy and margin of class 0 grow with the divergence and with nothing else,
    so an attack that climbs them from a random start, as PGD does, climbs the
    divergence. One that starts at the image finds no slope there; one that stops at a
    wrong class stops at once; a loss of three classes is not defined.

    Args:
      logits_fn: the model.
      images: `x`, `[B, H, W, C]`; the result takes as many images, in this order.

    Returns:
      `[B, H, W, C] -> [B, 2]`.
    """
    reference = jax.nn.log_softmax(logits_fn(images))
    return Partial(_diverging_logits, logits_fn, reference)


def _diverging_logits(logits_fn, reference, images):
    divergence = _divergence(reference, logits_fn(images))
    return jnp.stack([-divergence, jnp.zeros_like(divergence)], axis=-1)


def _divergence(reference: Array, logits: Array) -> Array:
    logs = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(reference) * (reference - logs), axis=-1)
