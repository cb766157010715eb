r"""Distillation: the attacker's own model learns the answers of a black box.

.. math:: f = \arg\min_f \; \mathbb{E}_x H(b(x), f(x))

`training.blackbox` makes the queries. The state is a classifier's.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.3.
"""

from collections.abc import Callable

import flax.linen as nn
import optax

from advgan_jax.training import classifier
from advgan_jax.training.classifier import init_state
from advgan_jax.training.states import ClassifierState
from advgan_jax.types import Batch, Metrics

__all__ = ["init_state", "make_train_step"]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    max_shift: int = 0,
    flip: bool = False,
) -> Callable[..., tuple[ClassifierState, Metrics]]:
    r"""Make the step that minimises the mean cross-entropy to the answers.

    .. math:: L = \frac1B \sum_b H(b(x_b), \mathrm{softmax}(f(x_b)))

    The labels of the batch are answers: probabilities `[B, K]`, one-hot if they are
    hard. The metrics are `distillation_loss`, and `agreement_rate`, the share of the
    batch to which both models assign the same class. Images may be shifted and flipped,
    see `classifier.augment`; the answers stay those of the original images.
    """
    learn = classifier.make_train_step(model, optimizer, max_shift=max_shift, flip=flip)

    def train_step(
        state: ClassifierState, batch: Batch, *, axis_name: str | None = None
    ) -> tuple[ClassifierState, Metrics]:
        """Make one step."""
        state, metrics = learn(state, batch, axis_name=axis_name)
        return state, {
            "distillation_loss": metrics["loss"],
            "agreement_rate": metrics["accuracy"],
        }

    return train_step
