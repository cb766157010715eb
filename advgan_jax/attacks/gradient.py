"""Attacks of one or a few signed gradient steps: FGSM, BIM, least-likely, momentum.

All of them minimise an adversarial loss (see `losses`), summed over the images so that
each image's gradient is its own, and project onto the ball and the box after each step.

Deviations: Kurakin et al. derive the number of BIM steps from epsilon; here it is given
and the step is derived. FGSM and BIM also come in L2 and L1, with the steepest step of
that norm in the place of the sign.
"""

import jax.numpy as jnp

from advgan_jax.attacks._api import attack
from advgan_jax.attacks.descent import derived_step, descend, make_gradient_fn
from advgan_jax.attacks.norms import get_norm
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn


@attack(static=("norm", "loss"))
def fgsm(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    epsilon: float,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Fast gradient sign method: one step to the edge of the ball.

    .. math:: x_A = \mathrm{clip}(x + \epsilon\,\mathrm{sign}(\nabla_x J(x, y)), l, h)

    and minus, towards the wanted class, when targeted.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: not used.
      epsilon: the radius of the ball, in pixel units of `norm`.
      norm: `linf`, `l2` or `l1`.
      loss: `cross_entropy`, `margin` or `dlr`.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      Adversarial images, within the ball and `bounds`.

    References:
      Goodfellow et al., 2015 (https://arxiv.org/abs/1412.6572), Sec. 4.
    """
    del key
    gradient_fn = make_gradient_fn(logits_fn, labels, loss=loss, targeted=targeted)
    return descend(
        gradient_fn, images, images, get_norm(norm), epsilon, epsilon, 1, bounds
    )


@attack(static=("num_steps", "norm", "loss"))
def bim(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 40,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Basic iterative method: small FGSM steps, each projected back.

    .. math:: x_{k+1} = \Pi(x_k + \alpha\,\mathrm{sign}(\nabla_x J(x_k, y)))

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: not used.
      epsilon: the radius of the ball, in pixel units of `norm`.
      step_size: `alpha`, in the same unit; None: `1.25 epsilon / num_steps`, at most
        epsilon, so that a pixel can cross from the centre to the edge and some more.
      num_steps: how many.
      norm: `linf`, `l2` or `l1`.
      loss: `cross_entropy`, `margin` or `dlr`.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      The last iterate, within the ball and `bounds`.

    References:
      Kurakin et al., 2017 (https://arxiv.org/abs/1607.02533), Sec. 2.2.
    """
    del key
    gradient_fn = make_gradient_fn(logits_fn, labels, loss=loss, targeted=targeted)
    step_size = derived_step(step_size, epsilon, num_steps, 1.25)
    return descend(
        gradient_fn,
        images,
        images,
        get_norm(norm),
        epsilon,
        step_size,
        num_steps,
        bounds,
    )


@attack(static=("num_steps",))
def ilcm(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 40,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Iterative least-likely class method: BIM towards what the model least expects.

    .. math:: x_{k+1} = \Pi(x_k - \alpha\,\mathrm{sign}(\nabla_x J(x_k, y_{LL}))),
      \qquad y_{LL} = \arg\min_i Z_i(x)

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: not used, as the wanted class is the least likely one.
      key: not used.
      epsilon: the L-infinity radius, in pixel units.
      step_size: `alpha`; None: `1.25 epsilon / num_steps`, at most epsilon.
      num_steps: how many.
      targeted: must be False; the attack chooses its own class.
      bounds: the least and the greatest pixel value.

    Returns:
      The last iterate, within the ball and `bounds`.

    Raises:
      ValueError: if `targeted`.

    References:
      Kurakin et al., 2017 (https://arxiv.org/abs/1607.02533), Sec. 2.3.
    """
    del key, labels
    if targeted:
        raise ValueError(
            "`ilcm` chooses the wanted classes itself, got targeted=True; use `bim` "
            "with `targeted=True` for classes of your own."
        )
    least_likely = jnp.argmin(logits_fn(images), axis=-1)
    gradient_fn = make_gradient_fn(
        logits_fn, least_likely, loss="cross_entropy", targeted=True
    )
    step_size = derived_step(step_size, epsilon, num_steps, 1.25)
    return descend(
        gradient_fn,
        images,
        images,
        get_norm("linf"),
        epsilon,
        step_size,
        num_steps,
        bounds,
    )


@attack(static=("num_steps", "loss"))
def mi_fgsm(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    epsilon: float,
    step_size: float | None = None,
    num_steps: int = 10,
    decay: float = 1.0,
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Momentum iterative FGSM, whose adversarial images transfer better.

    .. math:: g_{k+1} = \mu g_k + \frac{\nabla_x J}{\lVert\nabla_x J\rVert_1}, \qquad
      x_{k+1} = \Pi(x_k + \alpha\,\mathrm{sign}(g_{k+1}))

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: not used.
      epsilon: the L-infinity radius, in pixel units.
      step_size: `alpha`; None: `epsilon / num_steps`.
      num_steps: how many.
      decay: `mu >= 0`; 0 is BIM.
      loss: `cross_entropy`, `margin` or `dlr`.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      The last iterate, within the ball and `bounds`.

    References:
      Dong et al., 2018 (https://arxiv.org/abs/1710.06081), Alg. 1.
    """
    del key
    gradient_fn = make_gradient_fn(logits_fn, labels, loss=loss, targeted=targeted)
    step_size = derived_step(step_size, epsilon, num_steps, 1.0)
    ball = get_norm("linf")

    def step(carry):
        x, momentum = carry
        gradient = gradient_fn(x)
        size = jnp.sum(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
        momentum = decay * momentum + gradient / jnp.where(size > 0, size, 1)
        x = x - step_size * ball.steepest(momentum, x, bounds)
        return ball.project(x, images, epsilon, bounds), momentum

    start = (images, jnp.zeros_like(images))
    return loops.repeat(step, start, num_steps)[0]
