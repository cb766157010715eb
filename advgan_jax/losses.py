"""Compute the terms of the objectives: adversarial, GAN and hinge losses.

All adversarial losses are small where the attack succeeds. Their arguments are `logits`
`[B, K]`, class ids `labels` `[B]`, and `targeted`: whether `labels` are the wanted
classes rather than the true ones. They return one value per image, `[B]`. A logit may
be `-inf`, which masks its class.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.types import Array, Scalar


def margin(
    logits: Array, labels: Array, *, targeted: bool = False, confidence: Scalar = 0.0
) -> Array:
    r"""Return the Carlini--Wagner margin, by which an attack still fails.

    .. math:: \ell = \max(\pm(Z_y - \max_{i \ne y} Z_i), -\kappa)

    with plus for untargeted attacks (`y` the true class) and minus for targeted ones
    (`y` the wanted class).

    Args:
      logits: `Z`, shape `[B, K]`.
      labels: class ids, shape `[B]`.
      targeted: whether `labels` are wanted rather than true.
      confidence: `kappa >= 0` in logits; above 0 the attack continues that far beyond
        the decision boundary. (AdvGAN prints `max(., kappa)`, which would stop before
        the boundary for `kappa > 0`.)

    Returns:
      Per-image loss, shape `[B]`.

    Raises:
      ValueError: if `confidence < 0`.

    References:
      Carlini & Wagner, 2017 (https://arxiv.org/abs/1608.04644), Sec. VI-A;
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.2.
    """
    check_at_least("confidence", confidence, 0)
    return jnp.maximum(logit_margin(logits, labels, targeted=targeted), -confidence)


def logit_margin(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    r"""Return `margin` without its floor, `\pm(Z_y - \max_{i \ne y} Z_i)`, `[B]`."""
    at_label, best_other = label_and_best_other(logits, labels)
    return best_other - at_label if targeted else at_label - best_other


def label_and_best_other(logits: Array, labels: Array) -> tuple[Array, Array]:
    r"""Return both logits of a margin, `Z_y` and `\max_{i \ne y} Z_i`, `[B]`."""
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    at_label = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    # Minus infinity, because 0 would win against negative logits.
    return at_label, jnp.max(jnp.where(chosen, -jnp.inf, logits), axis=-1)


def cross_entropy(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    r"""Return the cross-entropy with the sign that an attack minimises.

    .. math:: \ell = \mp \log \mathrm{softmax}(Z)_y
        = \pm \log\big(1 + e^{-Z_y} \textstyle\sum_{i \ne y} e^{Z_i}\big)

    the usual cross-entropy towards a wanted class, its negative away from a true one.
    The second form keeps the gradient `1 - p_y` in `Z_y` where `p_y` rounds to one. The
    arguments are those of `margin`.
    """
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    loss = jax.nn.softplus(others - chosen)
    return loss if targeted else -loss


def rounded_cross_entropy(
    logits: Array, labels: Array, *, targeted: bool = False
) -> Array:
    r"""Return the cross-entropy from the logarithm of the softmax.

    .. math:: \ell = \mp \log \mathrm{softmax}(Z)_y

    AutoAttack's released code and most libraries compute it so. Where `p_y` rounds to
    one, the loss is 0, and its gradient lacks the part of `Z_y`, which `cross_entropy`
    keeps. The arguments are those of `margin`.
    """
    logarithms = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logarithms, labels[:, None], axis=-1)[:, 0]
    return -chosen if targeted else chosen


def dlr(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    r"""Return the difference of logits ratio, a margin independent of their scale.

    .. math:: \ell = \frac{Z_y - \max_{i \ne y} Z_i}{Z_{\pi_1} - Z_{\pi_3}}, \qquad
      \ell_t = \frac{Z_{m} - Z_t}{Z_{\pi_1} - (Z_{\pi_3} + Z_{\pi_4}) / 2}

    with `pi` the descending order of the logits and `m` the largest class but `t`. (The
    paper has the true class instead of `m`; it is unknown here.) Where a logit of the
    denominator is `-inf`, a masked class, the loss is the margin. Its gradient has the
    direction of the limit. Arguments as in `margin`.

    Raises:
      ValueError: if K < 3, or K < 4 when `targeted`.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Sec. 4.1 and Eq. 7.
    """
    margin = logit_margin(logits, labels, targeted=targeted)
    return _ratio(margin, logits, targeted=targeted)


def dlr_between(logits: Array, labels: Array, wanted: Array) -> Array:
    r"""Return the targeted difference of logits ratio, given the true class as well.

    .. math:: \ell = \frac{Z_y - Z_t}{Z_{\pi_1} - (Z_{\pi_3} + Z_{\pi_4}) / 2}

    Args:
      logits: `Z`, shape `[B, K]`.
      labels: the true classes `y`, shape `[B]`.
      wanted: the classes `t` to move to, shape `[B]`.

    Returns:
      Per-image loss, shape `[B]`. Masked classes are treated as in `dlr`.

    Raises:
      ValueError: if K < 4.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Eq. 7.
    """
    return _ratio(margin_between(logits, labels, wanted), logits, targeted=True)


def margin_between(logits: Array, labels: Array, wanted: Array) -> Array:
    """Return `Z_y - Z_t`; the arguments are those of `dlr_between`."""
    pairs = jnp.stack([labels, wanted], axis=-1)
    at_label, at_wanted = jnp.take_along_axis(logits, pairs, axis=-1).T
    return at_label - at_wanted


def _ratio(margin: Array, logits: Array, *, targeted: bool) -> Array:
    """Divide a margin by the scale of the logits."""
    least = 4 if targeted else 3
    if logits.shape[-1] < least:
        raise ValueError(
            f"The DLR loss needs at least {least} classes, got {logits.shape[-1]}; "
            "use `margin` instead."
        )
    ranked = jax.lax.top_k(logits, least)[0]
    low = (ranked[:, 2] + ranked[:, 3]) / 2 if targeted else ranked[:, 2]
    # Infinity goes before the quotient, whose gradient would be NaN.
    scale = ranked[:, 0] - jnp.where(jnp.isfinite(low), low, 0)
    scale = jnp.where(jnp.isfinite(low) & (scale > 0), scale, 1)
    return margin / scale


ADVERSARIAL_LOSSES: dict[str, Callable[..., Array]] = {
    "margin": margin,
    "cross_entropy": cross_entropy,
    "dlr": dlr,
}


def hinge(perturbation: Array, *, bound: float) -> Array:
    r"""Return a soft bound on the size of each image's perturbation.

    .. math:: \ell_{hinge} = \max(0, \lVert r \rVert_2 - c)

    Args:
      perturbation: `[B, ...]`, in pixel units.
      bound: `c >= 0`, an L2 norm over all pixels of one image.

    Returns:
      Per-image loss, shape `[B]`.

    Raises:
      ValueError: if `bound < 0`.

    References:
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.2.
    """
    check_at_least("bound", bound, 0)
    squares = jnp.sum(perturbation**2, axis=tuple(range(1, perturbation.ndim)))
    # The gradient of the root is infinite at 0, and unused below the bound.
    outside = squares > bound**2
    norm = jnp.sqrt(jnp.where(outside, squares, 1.0))
    return jnp.where(outside, norm - bound, 0.0)


def lsgan_discriminator(real: Array, fake: Array) -> Array:
    """Return `mean((D(x) - 1)^2) + mean(D(x_A)^2)`, over scores `[B]`."""
    return jnp.mean((real - 1) ** 2) + jnp.mean(fake**2)


def lsgan_generator(fake: Array) -> Array:
    """Return `mean((D(x_A) - 1)^2)`, over scores `[B]`."""
    return jnp.mean((fake - 1) ** 2)


def bce_discriminator(real: Array, fake: Array) -> Array:
    """Return `-mean(log s(D(x))) - mean(log(1 - s(D(x_A))))`, `s` sigmoid."""
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def bce_generator(fake: Array) -> Array:
    """Return `-mean(log s(D(x_A)))`, the form that does not saturate."""
    return jnp.mean(jax.nn.softplus(-fake))


def hinge_gan_discriminator(real: Array, fake: Array) -> Array:
    """Return `mean(max(0, 1 - D(x))) + mean(max(0, 1 + D(x_A)))`."""
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def hinge_gan_generator(fake: Array) -> Array:
    """Return `-mean(D(x_A))`."""
    return -jnp.mean(fake)


GAN_LOSSES: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "lsgan": (lsgan_discriminator, lsgan_generator),
    "bce": (bce_discriminator, bce_generator),
    "hinge": (hinge_gan_discriminator, hinge_gan_generator),
}


def adversarial_loss(name: str) -> Callable[..., Array]:
    """Return the loss in `ADVERSARIAL_LOSSES`; `ValueError` for an unknown name."""
    if name not in ADVERSARIAL_LOSSES:
        raise unknown_name("adversarial loss", name, ADVERSARIAL_LOSSES)
    return ADVERSARIAL_LOSSES[name]


def gan_loss(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Return the losses of discriminator, `(real, fake)`, and generator, `(fake)`.

    `name` is a key of `GAN_LOSSES`; `ValueError` for an unknown one.
    """
    if name not in GAN_LOSSES:
        raise unknown_name("GAN loss", name, GAN_LOSSES)
    return GAN_LOSSES[name]
