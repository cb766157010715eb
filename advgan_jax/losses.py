"""The terms of the objectives: adversarial, GAN and hinge losses, each a pure function.

All adversarial losses are small where the attack succeeds, take logits and class ids,
and return one value per image, so that the caller decides how to average.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.types import Array, Scalar


def margin(
    logits: Array, labels: Array, *, targeted: bool = False, confidence: Scalar = 0.0
) -> Array:
    r"""Return the Carlini--Wagner margin, by which an attack has not yet succeeded.

    .. math:: \ell = \max(\pm(Z_y - \max_{i \ne y} Z_i), -\kappa)

    with plus for untargeted attacks (`y` the true class) and minus for targeted ones
    (`y` the wanted class).

    Args:
      logits: `Z`, shape `[B, K]`.
      labels: class ids, shape `[B]`.
      targeted: whether `labels` are wanted rather than true.
      confidence: `kappa >= 0` in logits; above 0 the attack continues that far beyond
        the decision boundary. (AdvGAN prints `max(., kappa)`, which for kappa > 0
        would stop before the boundary; the two agree at 0.)

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
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    at_label = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    # Minus infinity, not 0: with all other logits negative 0 would win.
    best_other = jnp.max(jnp.where(chosen, -jnp.inf, logits), axis=-1)
    return best_other - at_label if targeted else at_label - best_other


def cross_entropy(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    r"""Return the cross-entropy with the sign that an attack minimises.

    .. math:: \ell = \mp \log \mathrm{softmax}(Z)_y
        = \pm \log\big(1 + e^{-Z_y} \textstyle\sum_{i \ne y} e^{Z_i}\big)

    the usual cross-entropy towards a wanted class, its negative away from a true one.
    In the second form nothing cancels where a model is certain: the gradient in `Z_y`
    remains `1 - p_y` long after `p_y` has been rounded to one.

    Args:
      logits: shape `[B, K]`.
      labels: class ids, shape `[B]`.
      targeted: whether `labels` are wanted rather than true.

    Returns:
      Per-image loss, shape `[B]`.
    """
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    loss = jax.nn.softplus(others - chosen)
    return loss if targeted else -loss


def dlr(logits: Array, labels: Array, *, targeted: bool = False) -> Array:
    r"""Return the difference of logits ratio, a margin independent of their scale.

    .. math:: \ell = \frac{Z_y - \max_{i \ne y} Z_i}{Z_{\pi_1} - Z_{\pi_3}}, \qquad
      \ell_t = \frac{Z_{m} - Z_t}{Z_{\pi_1} - (Z_{\pi_3} + Z_{\pi_4}) / 2}

    with `pi` the descending order of the logits and `m` the largest class but `t`.

    Args:
      logits: shape `[B, K]`; K >= 3, targeted K >= 4.
      labels: class ids, shape `[B]`.
      targeted: whether `labels` are wanted rather than true. The numerator then is
        the margin to the largest other class, as `labels` of the true class are not
        known here.

    Returns:
      Per-image loss, shape `[B]`.

    Raises:
      ValueError: if there are too few classes.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Sec. 4.1 and Eq. 7.
    """
    least = 4 if targeted else 3
    if logits.shape[-1] < least:
        raise ValueError(
            f"The DLR loss needs at least {least} classes, got {logits.shape[-1]}; "
            "use `margin` instead."
        )
    ranked = jax.lax.top_k(logits, least)[0]
    low = (ranked[:, 2] + ranked[:, 3]) / 2 if targeted else ranked[:, 2]
    scale = ranked[:, 0] - low + 1e-12
    return logit_margin(logits, labels, targeted=targeted) / scale


ADVERSARIAL_LOSSES: dict[str, Callable[..., Array]] = {
    "margin": margin,
    "cross_entropy": cross_entropy,
    "dlr": dlr,
}


def hinge(perturbation: Array, *, bound: float) -> Array:
    r"""Return a soft bound on the size of each image's perturbation.

    .. math:: \ell_{hinge} = \max(0, \lVert r \rVert_2 - c)

    Args:
      perturbation: `[B, H, W, C]`, in pixel units.
      bound: `c >= 0`, an L2 norm over all pixels of one image.

    Returns:
      Per-image loss, shape `[B]`; the hinge applies to each image before any mean.

    Raises:
      ValueError: if `bound < 0`.

    References:
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.2.
    """
    check_at_least("bound", bound, 0)
    squares = jnp.sum(perturbation**2, axis=(1, 2, 3))
    # The gradient of the root is infinite at 0; below the bound it is not needed.
    outside = squares > bound**2
    norm = jnp.sqrt(jnp.where(outside, squares, 1.0))
    return jnp.where(outside, norm - bound, 0.0)


def lsgan_discriminator(real: Array, fake: Array) -> Array:
    """Least squares: `mean((D(x) - 1)^2) + mean(D(x_A)^2)`, over scores `[B]`."""
    return jnp.mean((real - 1) ** 2) + jnp.mean(fake**2)


def lsgan_generator(fake: Array) -> Array:
    """Least squares: `mean((D(x_A) - 1)^2)`, over scores `[B]`."""
    return jnp.mean((fake - 1) ** 2)


def bce_discriminator(real: Array, fake: Array) -> Array:
    """Cross-entropy: `-mean(log s(D(x))) - mean(log(1 - s(D(x_A))))`, `s` sigmoid."""
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def bce_generator(fake: Array) -> Array:
    """Cross-entropy, the form that does not saturate: `-mean(log s(D(x_A)))`."""
    return jnp.mean(jax.nn.softplus(-fake))


def hinge_gan_discriminator(real: Array, fake: Array) -> Array:
    """Hinge: `mean(max(0, 1 - D(x))) + mean(max(0, 1 + D(x_A)))`."""
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def hinge_gan_generator(fake: Array) -> Array:
    """Hinge: `-mean(D(x_A))`."""
    return -jnp.mean(fake)


GAN_LOSSES: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "lsgan": (lsgan_discriminator, lsgan_generator),
    "bce": (bce_discriminator, bce_generator),
    "hinge": (hinge_gan_discriminator, hinge_gan_generator),
}


def adversarial_loss(name: str) -> Callable[..., Array]:
    """Return the adversarial loss of that name.

    Args:
      name: `margin`, `cross_entropy` or `dlr`.

    Returns:
      `(logits, labels, *, targeted) -> loss [B]`.

    Raises:
      ValueError: for an unknown name; lists the known ones.
    """
    if name not in ADVERSARIAL_LOSSES:
        raise unknown_name("adversarial loss", name, ADVERSARIAL_LOSSES)
    return ADVERSARIAL_LOSSES[name]


def gan_loss(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Return the GAN losses of that name.

    Args:
      name: `lsgan`, `bce` or `hinge`.

    Returns:
      The discriminator's `(real, fake) -> loss` and the generator's `fake -> loss`.

    Raises:
      ValueError: for an unknown name; lists the known ones.
    """
    if name not in GAN_LOSSES:
        raise unknown_name("GAN loss", name, GAN_LOSSES)
    return GAN_LOSSES[name]
