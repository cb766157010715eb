"""Auto-PGD: momentum, and a step size per image that halves when progress stalls.

Deviations: in L-infinity and L2 the random start is uniform in the ball (the released
code scales the noise to its surface). From all restarts the attack returns the
successful iterate of least loss; if none succeeded, the iterate of least loss. As in
the released code, the step size also halves if exactly three of four steps improved
the loss; the paper demands fewer. From a point without a usable gradient a step goes in
a random direction. In L1 the attack always shrinks the ball from three epsilon (which
the paper calls multi-epsilon), unless it has fewer than five steps. In `apgd_targeted`
an image ends at its first success.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax import losses
from advgan_jax.attacks import _descent
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._auto_pgd import Task, make_plan, run_all
from advgan_jax.attacks._descent import away
from advgan_jax.attacks._norms import Ball, get_norm
from advgan_jax.checks import unknown_name
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar


@attack(
    static=(
        *("num_steps", "norm", "loss", "random_start", "num_restarts"),
        *("stop_at_success", "as_in_autoattack"),
    ),
    random="random_start",
)
def apgd(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_steps: int = 100,
    norm: str = "linf",
    loss: str = "cross_entropy",
    random_start: bool = True,
    num_restarts: int = 1,
    stop_at_success: bool = False,
    as_in_autoattack: bool = False,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Auto-PGD, which needs no step size.

    .. math:: z_{k+1} = \Pi(x_k + \eta_k\,\mathrm{steepest}(\nabla_x J(x_k))), \qquad
      x_{k+1} = \Pi(x_k + \alpha (z_{k+1} - x_k) + (1 - \alpha)(x_k - x_{k-1}))

    The step size starts at `eta = 2 epsilon`. At a checkpoint it halves, and the image
    returns to its best iterate, in two cases: the loss has improved in at most three of
    four steps; or neither best loss nor step size has changed since the last one.

    In L1 there is no momentum, and the ball shrinks from three to one epsilon. A step
    moves two thirds as many pixels as the best iterate has moved, by equal amounts. It
    is as long as the radius while that number falls, and else shrinks to a tenth.

    Args:
      stop_at_success: whether an image ends at its first success, and stays as it is if
        it is misclassified already. This saves time; else its loss keeps falling.
      as_in_autoattack: whether very confident models weaken the attack as in
        AutoAttack's code: the cross-entropy is `losses.rounded_cross_entropy`, and in
        L2 gradients of about 1e-12 or less shorten the step.

    Returns:
      The best iterate, within the ball and `bounds`.

    Raises:
      ValueError: for restarts without a random start, or too few classes for `loss`.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Alg. 1 and Sec. 3;
      Croce & Hein, 2021 (https://arxiv.org/abs/2103.01208), Alg. 1 and Sec. 3, for L1.
    """
    _descent.check_restarts(num_restarts, random_start)
    if as_in_autoattack and loss == "cross_entropy":
        loss_fn = partial(losses.rounded_cross_entropy, targeted=targeted)
    else:
        loss_fn = _descent.make_loss_fn(loss, targeted=targeted)
    everything = jnp.sum(images, pixel_axes(images)) < jnp.inf
    success = _success_of(logits_fn, images, labels, targeted, stop_at_success)
    task = Task(
        logits_fn,
        lambda logits, labels, _: loss_fn(logits, labels),
        Ball(get_norm(norm), images, epsilon, bounds),
        labels,
        # All runs are the same, but for their starts.
        jnp.broadcast_to(labels[:, None], (len(labels), num_restarts)),
        away(images, bounds, key if random_start else None),
        everything if success is None else ~success,
        _noise_of(key, norm, epsilon, bounds) if random_start else None,
        *(targeted, stop_at_success, as_in_autoattack),
    )
    return run_all(task, make_plan(num_steps, norm), norm).images


@attack(
    static=(
        *("num_steps", "norm", "loss", "random_start", "num_restarts"),
        "num_classes_tried",
    ),
    random="random_start",
)
def apgd_targeted(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_steps: int = 100,
    norm: str = "linf",
    loss: str = "dlr",
    random_start: bool = True,
    num_restarts: int = 1,
    num_classes_tried: int = 9,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Auto-PGD towards the most likely wrong classes, one after the other.

    .. math:: \ell_t = \frac{Z_y - Z_t}{Z_{\pi_1} - (Z_{\pi_3} + Z_{\pi_4}) / 2}

    is the loss of the runs towards `t`, a class of the largest logits of the clean
    image but `y`. Any wrong class is a success, which ends the attack on an image. An
    image that is misclassified already stays as it is. The steps are those of `apgd`.

    Args:
      loss: `dlr` as above, or `margin`, its numerator, for two or three classes.
      num_restarts: number of runs towards each class.
      num_classes_tried: number of classes, at most one less than there are.
      targeted: must be False; the attack chooses its own classes.

    Returns:
      The first success, else the iterate of least loss, within the ball and `bounds`.

    Raises:
      ValueError: if `targeted`, for restarts without a random start, or for fewer than
        four classes with `dlr`.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Sec. 4.1 and 5.
    """
    if targeted:
        raise ValueError(
            "`apgd_targeted` chooses the wanted classes itself, got targeted=True; use "
            "`apgd` with `targeted=True` for classes of your own."
        )
    if loss not in _BETWEEN:
        raise unknown_name("loss of `apgd_targeted`", loss, _BETWEEN)
    _descent.check_restarts(num_restarts, random_start)
    logits = logits_fn(images)
    classes = next_classes(logits, labels, num_classes_tried)
    task = Task(
        logits_fn,
        _BETWEEN[loss],
        Ball(get_norm(norm), images, epsilon, bounds),
        labels,
        jnp.repeat(classes, num_restarts, axis=1),
        away(images, bounds, key if random_start else None),
        ~_descent.succeeded(logits, labels),
        _noise_of(key, norm, epsilon, bounds) if random_start else None,
        targeted=False,
        stop=True,
    )
    return run_all(task, make_plan(num_steps, norm), norm).images


_BETWEEN = {"dlr": losses.dlr_between, "margin": losses.margin_between}


def next_classes(logits: Array, labels: Array, number: int) -> Array:
    """Return the wrong classes of the largest logits, `[B, number]` or all of them."""
    others = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jnp.where(others, -jnp.inf, logits)
    return lax.top_k(others, min(number, logits.shape[-1] - 1))[1]


def _success_of(
    logits_fn: LogitsFn, images: Array, labels: Array, targeted: bool, needed: bool
) -> Array | None:
    """Return whether clean images succeed; None, and no evaluation, if not needed."""
    if not needed:
        return None
    return _descent.succeeded(logits_fn(images), labels, targeted=targeted)


def _noise_of(
    key: Array | None, norm: str, epsilon: Scalar, bounds: Bounds
) -> Callable[[Array, Array, Array], Array]:
    """Return the noise of images at the start of their runs; each has its own key."""

    def _sample(own: Array, images: Array) -> Array:
        if norm != "l1":
            return get_norm(norm).sample(own, images, epsilon)
        # Its projection onto the ball moves few pixels.
        noise = jax.random.normal(own, images.shape, images.dtype)
        return (bounds[1] - bounds[0]) * noise

    def _noise(images: Array, ids: Array, runs: Array) -> Array:
        def _of_one(image: Array, index: Array, run: Array) -> Array:
            assert key is not None  # `@attack` has checked it
            own = jax.random.fold_in(jax.random.fold_in(key, run), index)
            return _sample(own, image[None])[0]

        return jax.vmap(_of_one)(images, ids, runs)

    return _noise
