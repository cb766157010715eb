"""When an adversarial image counts as one."""

import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.types import Array

# Another batch size, or another device, rounds logits otherwise. Searches that stop
# just behind the decision boundary ask for this much more, relative to the largest
# logit: about ten units in the last place of float32.
_ROUNDING = 1e-6


def margin(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    """`losses.margin` without its floor: how far each image is from success, `[B]`."""
    # A confidence no difference of float32 logits reaches.
    return losses.margin(logits, labels, targeted=targeted, confidence=1e30)


def succeeded(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    """Whether the predicted class is wrong or, when targeted, the wanted one.

    Args:
      logits: of the adversarial images, `[B, K]`.
      labels: class ids, `[B]`; wanted ones when `targeted`, else true ones.
      targeted: whether `labels` are wanted rather than true.

    Returns:
      bool `[B]`; False where a logit is not finite.
    """
    hit = jnp.argmax(logits, axis=-1) == labels
    return (hit if targeted else ~hit) & jnp.all(jnp.isfinite(logits), axis=-1)


def succeeded_clearly(
    logits: Array,
    labels: Array,
    *,
    targeted: bool = False,
    confidence: Array | float = 0.0,
) -> Array:
    """Whether it succeeds by more than `confidence` and the rounding of a logit.

    Args:
      logits: of the adversarial images, `[B, K]`.
      labels: class ids, `[B]`; wanted ones when `targeted`, else true ones.
      targeted: whether `labels` are wanted rather than true.
      confidence: `kappa >= 0`, in logits.

    Returns:
      bool `[B]`; False where a logit is not finite.
    """
    slack = _ROUNDING * jnp.max(jnp.abs(logits), axis=-1)
    clear = margin(logits, labels, targeted=targeted) < -(confidence + slack)
    return clear & jnp.all(jnp.isfinite(logits), axis=-1)
