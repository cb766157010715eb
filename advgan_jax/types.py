"""Name the types that all layers share: arrays, batches, models, attacks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
from jax.typing import ArrayLike

Array = jax.Array
Scalar = float | Array  # a real number; in a compiled program a traced one
Params = Any  # a pytree of arrays, as Flax' `init` returns it
Metrics = Mapping[str, Array]
LogitsFn = Callable[[Array], Array]
Bounds = tuple[float, float]


class Batch(NamedTuple):
    """Images with their classes, or with the answers of a model.

    Attributes:
      images: `[B, H, W, C]`, float32 in [0, 1]. A whole split may be uint8; compiled
        steps convert it batch by batch.
      labels: int32 `[B]`, class ids; in distillation the answers of the other model,
        float32 `[B, K]` probabilities.
    """

    images: Array
    labels: Array


class Attack(Protocol):
    """A function from images to adversarial images: the signature of all attacks.

    Hyperparameters are keyword arguments. `__call__` documents the shared ones once;
    the docstring of each attack repeats them.
    """

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: ArrayLike,
        labels: ArrayLike | None,
        *args: Any,
        **hyperparams: Any,
    ) -> Array:
        """Return adversarial images.

        Args:
          logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
          images: clean images, `[B, H, W, C]`: floats within `bounds`, or uint8, where
            0 means the least and 255 the greatest of `bounds`. Attacks without a
            generator also accept tables, audio and video: `[B, ...]` of any rank.
          labels: int `[B]`, the true classes, or the wanted ones when `targeted`; None
            (untargeted only) means the model's own predictions.
          key: one typed PRNG key; only attacks that draw random numbers need it.
          epsilon: radius of the ball around each image, in pixel units of `norm`.
          num_steps: number of steps, of each restart if there are several.
          norm: `linf`, `l2` or `l1`.
          loss: a name of `losses.ADVERSARIAL_LOSSES`, such as `margin`.
          random_start: whether to start at a random point of the ball, which needs
            `key`, instead of its centre.
          num_restarts: number of random starts; each image keeps its best result.
          confidence: `kappa`, the margin in logits by which the attack must succeed.
          targeted: whether to move towards `labels` instead of away from them.
          bounds: the smallest and the largest pixel value.
          *args: none; all attacks take keyword arguments only.
          **hyperparams: `key`, `targeted`, `bounds` and the attack's own.

        Returns:
          Adversarial images, same shape as `images`, float32 within `bounds`.
        """
        ...
