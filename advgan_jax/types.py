"""Names for what flows between the layers: arrays, batches, models, attacks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Params = Any  # a pytree of arrays, as Flax' `init` returns it
Metrics = Mapping[str, Array]
LogitsFn = Callable[[Array], Array]
Bounds = tuple[float, float]


class Batch(NamedTuple):
    """Images with their classes, or with what a model answered about them.

    Attributes:
      images: `[B, H, W, C]`, float32 in [0, 1]; a whole split may be kept as uint8, of
        which compiled steps make floats batch by batch.
      labels: int32 `[B]`, class ids; in distillation the answers of the other model,
        float32 `[B, K]` probabilities.
    """

    images: Array
    labels: Array


class Attack(Protocol):
    """Anything that turns images into adversarial images; all attacks have this shape.

    Hyper-parameters (`epsilon`, `step_size`, `num_steps`, ...) are further keyword
    arguments, documented by each attack.
    """

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: Array,
        labels: Array | None,
        *,
        key: Array | None = None,
        targeted: bool = False,
        bounds: Bounds = (0.0, 1.0),
    ) -> Array:
        """Returns adversarial images.

        Args:
          logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
          images: clean images, float32 `[B, H, W, C]` within `bounds`.
          labels: int `[B]`: the true classes, or the wanted ones when `targeted`;
            None (untargeted only) means the model's own prediction.
          key: a typed PRNG key, for attacks that draw random numbers.
          targeted: whether to move towards `labels` instead of away from them.
          bounds: the least and the greatest pixel value.

        Returns:
          Adversarial images, same shape and dtype as `images`, within `bounds`.
        """
        ...
