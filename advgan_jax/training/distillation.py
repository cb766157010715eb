r"""Distillation: the attacker's own model learns the answers of a black box.

.. math:: f = \arg\min_f \; \mathbb{E}_x H(b(x), f(x))

The images and the answers are data like any other. `training.blackbox` makes the
queries.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.3.
"""

from collections.abc import Callable

import flax.linen as nn
import optax

from advgan_jax.training import classifier
from advgan_jax.training.states import DistilledState
from advgan_jax.types import Array, Batch, Metrics


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: Array,
    image_shape: tuple[int, int, int],
) -> DistilledState:
    """Initialise a model f, of any architecture; see `training` for the arguments."""
    fresh = classifier.init_state(model, optimizer, key, image_shape)
    return DistilledState(fresh.step, fresh.key, fresh.net, fresh.batch_stats)


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation
) -> Callable[..., tuple[DistilledState, Metrics]]:
    r"""Make the step that minimises the mean cross-entropy to the answers.

    .. math:: L = \frac1B \sum_b H(b(x_b), \mathrm{softmax}(f(x_b)))

    The batch has answers in the place of labels: probabilities `[B, K]`, one-hot if
    they are hard. Metrics: `distillation_loss`, and `agreement_rate`, the share of the
    batch to which both models assign the same class.
    """
    learn = classifier.make_train_step(model, optimizer)

    def train_step(
        state: DistilledState, batch: Batch, *, axis_name: str | None = None
    ) -> tuple[DistilledState, Metrics]:
        """Make one step."""
        state, metrics = learn(state, batch, axis_name=axis_name)
        return state, {
            "distillation_loss": metrics["loss"],
            "agreement_rate": metrics["accuracy"],
        }

    return train_step
