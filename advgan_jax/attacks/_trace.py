"""Check the hyper-parameters of an attack without running it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from advgan_jax.types import Array


def trace_attack(
    attack: Callable[..., Array],
    image_shape: tuple[int, int, int],
    num_classes: int,
    **options: Any,
) -> None:
    """Raise what an attack raises for its hyper-parameters, without running it.

    Args:
      attack: bound; it is traced on one image.
      image_shape: (H, W, C).
      num_classes: K.
      **options: of the call, such as `targeted=True`.

    Raises:
      TypeError: if the attack raises it.
      ValueError: if the attack raises it.
    """

    def _logits_fn(images):
        return jnp.zeros((len(images), num_classes)) + jnp.sum(images)

    def _craft(images, labels):
        return attack(_logits_fn, images, labels, key=jax.random.key(0), **options)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jax.eval_shape(_craft, images, jax.ShapeDtypeStruct((1,), jnp.int32))
