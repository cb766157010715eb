"""Attacks by signed gradient steps: FGSM, BIM, least-likely class, momentum, PGD.

Each step descends an adversarial loss (see `losses`) and projects onto the ball and the
box. The loss is summed over the images, so each image has its own gradient.

Deviations: Kurakin et al. derive the number of BIM steps from epsilon; here the caller
gives it, and the step size is derived. FGSM and BIM also exist in L2 and L1, with the
steepest step of that norm. PGD returns the first restart that succeeds, else the one of
least loss; the model judges the returned images. In L1 the attacks project onto the
ball and the box at once (Croce & Hein, 2021). An L1 step moves one percent of the
pixels, among those that can still move (Tramer & Boneh, 2019). If the gradient of an
image that does not succeed yet is zero or not finite, the step is random.
"""

import jax.numpy as jnp

from advgan_jax.attacks import _descent
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import (
    away,
    derived_step,
    descend,
    gradient_nearby,
    make_gradient_fn,
)
from advgan_jax.attacks._norms import Ball, get_norm
from advgan_jax.cpu import loops
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

# A class is masked if its logit is this far below all others, plus so many times their
# range. Logits of a large scale also have a large range. Masks of -1e4 are common.
_MASK_GAP, _MASK_RATIO = 2e3, 100


@attack(static=("norm", "loss"))
def fgsm(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Fast gradient sign method: one step to the edge of the ball.

    .. math:: x_A = \mathrm{clip}(x + \epsilon\,\mathrm{sign}(\nabla_x J(x, y)), l, h)

    When targeted, the sign is minus and `y` is the wanted class. In L2 the step follows
    the gradient. In L1 it moves one percent of the pixels (at least one), those of the
    largest gradient that can move, by equal amounts. Where the gradient at `x` is zero
    or not finite, that at a point beside `x` takes its place.

    Args:
      epsilon: radius of the ball and norm of the step, in pixel units of `norm`.

    Returns:
      Adversarial images, within the ball and `bounds`.

    References:
      Goodfellow et al., 2015 (https://arxiv.org/abs/1412.6572), Sec. 4.

    Example:
      >>> import jax.numpy as jnp
      >>> from advgan_jax import attacks
      >>> model = lambda images: images.reshape(-1, 4) @ jnp.array([[1.0, -1.0]] * 4)
      >>> images, labels = jnp.full((1, 2, 2, 1), 0.5), jnp.array([0])
      >>> print(attacks.fgsm(model, images, labels, epsilon=0.1).ravel())
      [0.4 0.4 0.4 0.4]
    """
    del key
    ball = Ball(get_norm(norm), images, epsilon, bounds)
    directions = away(images, bounds)
    gradient_fn = make_gradient_fn(
        logits_fn, labels, directions, loss=loss, targeted=targeted
    )
    _, gradient = gradient_nearby(gradient_fn, images, directions, bounds)
    return ball.step(images, -gradient, epsilon)


@attack(static=("num_steps", "norm", "loss"))
def bim(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    step_size: Scalar | None = None,
    num_steps: int = 40,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Basic iterative method: small FGSM steps, each projected back.

    .. math:: x_{k+1} = \Pi(x_k + \alpha\,\mathrm{sign}(\nabla_x J(x_k, y)))

    In L2 and L1 the steps are those of `fgsm`.

    Args:
      step_size: `alpha`, in the same unit; None: `1.25 epsilon / num_steps`, at most
        epsilon, so that `num_steps` steps reach the edge of the ball with a quarter to
        spare.

    Returns:
      The last iterate, within the ball and `bounds`.

    Raises:
      ValueError: if `step_size > epsilon`.

    References:
      Kurakin et al., 2017 (https://arxiv.org/abs/1607.02533), Sec. 2.2.
    """
    del key
    ball = Ball(get_norm(norm), images, epsilon, bounds)
    gradient_fn = make_gradient_fn(
        logits_fn, labels, away(images, bounds), loss=loss, targeted=targeted
    )
    step_size = derived_step(step_size, epsilon, num_steps, 1.25)
    return descend(gradient_fn, images, ball, step_size, num_steps)


@attack(static=("num_steps",))
def ilcm(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    step_size: Scalar | None = None,
    num_steps: int = 40,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Iterative least-likely class method: BIM towards the least likely class.

    .. math:: x_{k+1} = \Pi(x_k - \alpha\,\mathrm{sign}(\nabla_x J(x_k, y_{LL}))),
      \qquad y_{LL} = \arg\min_i Z_i(x)

    Args:
      labels: not used, as the wanted class is the least likely one that is neither the
        predicted one nor masked: by a logit that is `-inf`, or more than 2000 plus 100
        times the range of the others below them, such as -1e4.
      step_size: `alpha`; None: `1.25 epsilon / num_steps`, at most epsilon.
      targeted: must be False; the attack chooses its own class.

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
    classes = _least_likely(logits_fn(images))
    ball = Ball(get_norm("linf"), images, epsilon, bounds)
    gradient_fn = make_gradient_fn(
        logits_fn, classes, away(images, bounds), loss="cross_entropy", targeted=True
    )
    step_size = derived_step(step_size, epsilon, num_steps, 1.25)
    return descend(gradient_fn, images, ball, step_size, num_steps)


def _least_likely(logits: Array) -> Array:
    """Return the least likely class that is not masked, `[B]`."""
    # Of equal logits the first is predicted, so it comes last.
    order = jnp.argsort(-logits, axis=-1, stable=True)[:, ::-1]
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    gaps = ranked[:, 1:] - ranked[:, :-1]
    ranges = ranked[:, -1:] - ranked[:, 1:]  # of all classes above the gap
    masked = (gaps > _MASK_GAP + _MASK_RATIO * ranges)[:, :-1]  # two classes remain
    counts = jnp.where(masked, jnp.arange(1, masked.shape[-1] + 1), 0)
    first = jnp.max(counts, axis=-1, initial=0)
    return jnp.take_along_axis(order, first[:, None], axis=-1)[:, 0]


@attack(static=("num_steps", "loss"))
def mi_fgsm(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    step_size: Scalar | None = None,
    num_steps: int = 10,
    decay: Scalar = 1.0,
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Momentum iterative FGSM, whose adversarial images transfer better.

    .. math:: g_{k+1} = \mu g_k + \frac{\nabla_x J}{\lVert\nabla_x J\rVert_1}, \qquad
      x_{k+1} = \Pi(x_k + \alpha\,\mathrm{sign}(g_{k+1}))

    Args:
      step_size: `alpha`; None: `epsilon / num_steps`.
      decay: `mu >= 0`; 0 is BIM.

    Returns:
      The last iterate, within the ball and `bounds`.

    References:
      Dong et al., 2018 (https://arxiv.org/abs/1710.06081), Alg. 1.
    """
    del key
    gradient_fn = make_gradient_fn(
        logits_fn, labels, away(images, bounds), loss=loss, targeted=targeted
    )
    step_size = derived_step(step_size, epsilon, num_steps, 1.0)
    ball = Ball(get_norm("linf"), images, epsilon, bounds)

    def _step(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, momentum = carry
        gradient, _ = gradient_fn(x)
        size = jnp.sum(jnp.abs(gradient), axis=pixel_axes(x), keepdims=True)
        momentum = decay * momentum + gradient / jnp.where(size > 0, size, 1)
        return ball.step(x, -momentum, step_size), momentum

    start = (images, jnp.zeros_like(images))
    return loops.repeat(_step, start, num_steps)[0]


@attack(
    static=("num_steps", "norm", "loss", "random_start", "num_restarts"),
    random="random_start",
)
def pgd(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    step_size: Scalar | None = None,
    num_steps: int = 40,
    norm: str = "linf",
    loss: str = "cross_entropy",
    random_start: bool = True,
    num_restarts: int = 1,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Projected gradient descent.

    .. math:: x_0 \sim U(B_\epsilon(x)), \qquad
      x_{k+1} = \Pi(x_k + \alpha\,\mathrm{steepest}(\nabla_x J(x_k, y)))

    The steepest steps are those of `fgsm`.

    Args:
      step_size: `alpha`, in the same unit; None: `2.5 epsilon / num_steps`, at most
        epsilon, so that the steps can cross the ball. (Madry et al. take 0.01 for
        epsilon 0.3 and 40 steps.)

    Returns:
      The last iterate of the best restart, within the ball and `bounds`.

    Raises:
      ValueError: for restarts without a random start, or `step_size > epsilon`.

    References:
      Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Sec. 2.1;
      Tramer & Boneh, 2019 (https://arxiv.org/abs/1904.13000), App. A, for L1.
    """
    ball = Ball(get_norm(norm), images, epsilon, bounds)
    gradient_fn = make_gradient_fn(
        logits_fn,
        labels,
        away(images, bounds, key if random_start else None),
        loss=loss,
        targeted=targeted,
    )
    step_size = derived_step(step_size, epsilon, num_steps, 2.5)

    loss_fn = _descent.make_loss_fn(loss, targeted=targeted)

    def _run(restart: Array | int) -> _descent.Candidate:
        start = ball.random_point(key, restart) if random_start else images
        x = descend(gradient_fn, start, ball, step_size, num_steps)
        logits = logits_fn(x)
        success = _descent.succeeded(logits, labels, targeted=targeted)
        return _descent.Candidate(x, success, loss_fn(logits, labels))

    return _descent.best_restart(_run, images, num_restarts, random_start)
