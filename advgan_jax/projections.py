"""Project adversarial images onto norm balls and the pixel range.

All functions share these arguments: `x` is to be projected, `[B, H, W, C]` or any
`[B, ...]`. `images` are the centres of the balls, of the same shape. `epsilon` is the
radius, a norm over all pixels of one image. `bounds` are the smallest and the largest
pixel value.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.types import Array, Bounds


def pixel_axes(x: Array) -> tuple[int, ...]:
    """Return the axes of one image: all but the first."""
    return tuple(range(1, x.ndim))


def clip_inward(x: Array, low: Array, high: Array) -> Array:
    r"""Clip to a box; a clipped entry keeps gradients that point inwards.

    The usual gradient of a clip is zero outside the box, so a perturbation outside it
    never returns. Here the gradient is zero only where a descent step would move the
    entry further out:

    .. math:: \bar x = g \cdot
        [\,l \le x \le h \;\lor\; (x < l \land g < 0) \;\lor\; (x > h \land g > 0)\,]

    `x` has any shape; `low` and `high` broadcast to it.
    """
    return _clip_inward(x, low, high)


@jax.custom_vjp
def _clip_inward(x: Array, low: Array, high: Array) -> Array:
    """Clip; `clip_inward` adds the types that `custom_vjp` hides."""
    return jnp.clip(x, low, high)


def _clip_inward_fwd(
    x: Array, low: Array, high: Array
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    """Clip, and mark the entries outside of the box."""
    return jnp.clip(x, low, high), (x < low, x > high, low, high)


def _clip_inward_bwd(
    residuals: tuple[Array, Array, Array, Array], gradient: Array
) -> tuple[Array, Array, Array]:
    """Drop the gradients that point outwards."""
    below, above, low, high = residuals
    outward = (below & (gradient > 0)) | (above & (gradient < 0))
    inward = jnp.where(outward, 0, gradient)
    return inward, jnp.zeros_like(low), jnp.zeros_like(high)


_clip_inward.defvjp(_clip_inward_fwd, _clip_inward_bwd)


def perturb(
    images: Array, perturbation: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    r"""Add a perturbation, bounded by epsilon (L-infinity) and by the pixel range.

    .. math:: x_A = \mathrm{clip}(x + r,\ \max(x - \epsilon, l),\ \min(x + \epsilon, h))

    `perturbation` has the shape of `images`, in pixel units. The gradient is that of
    `clip_inward`.
    """
    return clip_inward(images + perturbation, *linf_box(images, epsilon, bounds))


def linf_box(
    images: Array, epsilon: Array | float, bounds: Bounds
) -> tuple[Array, Array]:
    r"""Return the smallest and the largest image in the ball and the pixel range.

    They keep `|x - images| <= epsilon` to the last bit, in the precision of `images`.
    """
    epsilon = jnp.asarray(epsilon, images.dtype)
    low, high = images - epsilon, images + epsilon
    # Rounding may put an edge half a unit in the last place outside of the ball.
    low = jnp.where(images - low > epsilon, jnp.nextafter(low, images), low)
    high = jnp.where(high - images > epsilon, jnp.nextafter(high, images), high)
    return jnp.maximum(low, bounds[0]), jnp.minimum(high, bounds[1])


def project_linf(
    x: Array, images: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    """Return the nearest point in the L-infinity ball and the box; see `linf_box`."""
    low, high = linf_box(images, epsilon, bounds)
    return jnp.clip(x, low, high)


def project_l2(
    x: Array, images: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    r"""Project onto the L2 ball around each image, then onto the box.

    The second step moves no pixel away from its image, so the result is in both sets.
    It is not always the nearest such point.
    """
    perturbation = x - images
    norm = norm_l2(perturbation)
    scale = jnp.where(norm > epsilon, epsilon / jnp.where(norm > 0, norm, 1), 1)
    return jnp.clip(images + scale * perturbation, *bounds)


def project_l1(
    x: Array, images: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    r"""Return the nearest point in the L1 ball and the box at once.

    Let `a = |x - x_0|`, and `b` the room up to the box on that side. The perturbation
    is a capped soft threshold, where lambda is the root of a decreasing function:

    .. math:: |r_i| = \min(\max(a_i - \lambda, 0), b_i), \qquad
        \sum_i |r_i(\lambda)| = \epsilon

    Bisection finds lambda to the precision of the numbers. The sum never exceeds
    epsilon.

    References:
      Croce & Hein, 2021 (https://arxiv.org/abs/2103.01208), Prop. 2.1. The paper
      sorts, which is slow in XLA on CPU.
    """
    axes = pixel_axes(x)
    perturbation = x - images
    amount = jnp.abs(perturbation)
    room = jnp.where(perturbation >= 0, bounds[1] - images, images - bounds[0])

    def _kept(threshold):
        return jnp.clip(amount - threshold, 0, room)

    def _total(threshold):
        return jnp.sum(_kept(threshold), axis=axes, keepdims=True)

    def _halve(_, interval):
        low, high = interval
        middle = (low + high) / 2
        inside = _total(middle) <= epsilon
        return jnp.where(inside, low, middle), jnp.where(inside, middle, high)

    largest = jnp.max(amount, axis=axes, keepdims=True, initial=0)
    num_halvings = jnp.finfo(x.dtype).nmant + 2
    _, threshold = lax.fori_loop(
        0, num_halvings, _halve, (jnp.zeros_like(largest), largest)
    )
    threshold = jnp.where(_total(0) <= epsilon, 0, threshold)
    result = images + jnp.sign(perturbation) * _kept(threshold)
    return jnp.clip(result, *bounds)


def norm_l2(perturbation: Array) -> Array:
    """Return the L2 norm of each image, `[B, 1, ...]`; no square overflows."""
    axes = pixel_axes(perturbation)
    largest = jnp.max(jnp.abs(perturbation), axis=axes, keepdims=True, initial=0)
    safe = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum((perturbation / safe) ** 2, axis=axes, keepdims=True)
    return largest * jnp.sqrt(squares)


PROJECTIONS: dict[str, Callable[[Array, Array, Array | float, Bounds], Array]] = {
    "linf": project_linf,
    "l2": project_l2,
    "l1": project_l1,
}
