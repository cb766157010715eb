"""Projections onto the sets that adversarial images must stay in."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.types import Array, Bounds

_PIXELS = (1, 2, 3)


def clip_inward(x: Array, low: Array, high: Array) -> Array:
    r"""Clip to a box; a clipped entry keeps gradients that point inwards.

    The usual gradient of a clip is zero outside the box, so a perturbation that has
    left it can never return. Here the gradient is kept where a descent step moves the
    entry back towards the box, and is zero where it would move it further out:

    .. math:: \bar x = g \cdot
        [\,l \le x \le h \;\lor\; (x < l \land g < 0) \;\lor\; (x > h \land g > 0)\,]

    Args:
      x: any shape.
      low: the lower bound, broadcastable to `x`.
      high: the upper bound, broadcastable to `x`.

    Returns:
      `clip(x, low, high)`.
    """
    return _clip_inward(x, low, high)


@jax.custom_vjp
def _clip_inward(x: Array, low: Array, high: Array) -> Array:
    """Clip; typed completely only where it is wrapped."""
    return jnp.clip(x, low, high)


def _clip_inward_fwd(
    x: Array, low: Array, high: Array
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    """Clip, and keep what is outside of the box."""
    return jnp.clip(x, low, high), (x < low, x > high, low, high)


def _clip_inward_bwd(
    residuals: tuple[Array, Array, Array, Array], gradient: Array
) -> tuple[Array, Array, Array]:
    """Drop the gradients that point outwards."""
    below, above, low, high = residuals
    outward = (below & (gradient > 0)) | (above & (gradient < 0))
    return (
        jnp.where(outward, 0, gradient),
        jnp.zeros_like(low),
        jnp.zeros_like(high),
    )


_clip_inward.defvjp(_clip_inward_fwd, _clip_inward_bwd)


def perturb(
    images: Array, perturbation: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    r"""Add a perturbation, bounded by epsilon (L-infinity) and by the pixel range.

    .. math:: x_A = \mathrm{clip}(x + r,\ \max(x - \epsilon, l),\ \min(x + \epsilon, h))

    Args:
      images: `[B, H, W, C]`, within `bounds`.
      perturbation: `[B, H, W, C]`, in pixel units.
      epsilon: the bound, in pixel units.
      bounds: the smallest and the largest pixel value.

    Returns:
      Adversarial images. The gradient is that of `clip_inward`.
    """
    return clip_inward(images + perturbation, *linf_box(images, epsilon, bounds))


def linf_box(
    images: Array, epsilon: Array | float, bounds: Bounds
) -> tuple[Array, Array]:
    r"""Return the smallest and the largest image in the ball and the pixel range.

    Args:
      images: centres of the balls, `[B, H, W, C]`, within `bounds`.
      epsilon: the radius, in pixel units.
      bounds: the smallest and the largest pixel value.

    Returns:
      Two arrays like `images`. They keep `|x - images| <= epsilon` to the last bit,
      as computed in the images' own precision.
    """
    epsilon = jnp.asarray(epsilon, images.dtype)
    low, high = images - epsilon, images + epsilon
    # Rounding may have put an edge half a unit in the last place outside of the ball.
    low = jnp.where(images - low > epsilon, jnp.nextafter(low, images), low)
    high = jnp.where(high - images > epsilon, jnp.nextafter(high, images), high)
    return jnp.maximum(low, bounds[0]), jnp.minimum(high, bounds[1])


def project_linf(
    x: Array, images: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    """Return the nearest point in the L-infinity ball and the box.

    Args:
      x: what to project, `[B, H, W, C]`.
      images: centres of the balls, `[B, H, W, C]`, within `bounds`.
      epsilon: the radius, in pixel units.
      bounds: the smallest and the largest pixel value.

    Returns:
      An array like `x`; see `linf_box` for its rounding.
    """
    low, high = linf_box(images, epsilon, bounds)
    return jnp.clip(x, low, high)


def project_l2(
    x: Array, images: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    r"""Project onto the L2 ball around each image, then onto the box.

    The second step moves no pixel away from its image, so the result is in both sets.
    It is not always the nearest such point, which only a search would find.

    Arguments as in `project_linf`; `epsilon` bounds a norm over all pixels of an image.
    """
    perturbation = x - images
    norm = norm_l2(perturbation)
    scale = jnp.where(norm > epsilon, epsilon / jnp.where(norm > 0, norm, 1), 1)
    return jnp.clip(images + scale * perturbation, *bounds)


def project_l1(
    x: Array, images: Array, epsilon: Array | float, bounds: Bounds
) -> Array:
    r"""Return the nearest point in the L1 ball and the box at once.

    With `a = |x - x_0|` and the room `b` up to the box on that side, the perturbation
    is a soft threshold with a cap, and the threshold the root of a falling function:

    .. math:: |r_i| = \min(\max(a_i - \lambda, 0), b_i), \qquad
        \sum_i |r_i(\lambda)| = \epsilon

    Bisection finds it to the precision of the numbers, from the side where the sum does
    not exceed epsilon.

    Args:
      x: what to project, `[B, H, W, C]`.
      images: centres of the balls, `[B, H, W, C]`, within `bounds`.
      epsilon: the radius, a sum over all pixels of one image.
      bounds: the smallest and the largest pixel value.

    Returns:
      An array like `x`.

    References:
      Croce & Hein, 2021 (https://arxiv.org/abs/2103.01208), Prop. 2.1 (there solved by
      sorting, which is slow in XLA on CPU).
    """
    perturbation = x - images
    amount = jnp.abs(perturbation)
    room = jnp.where(perturbation >= 0, bounds[1] - images, images - bounds[0])

    def kept(threshold):
        """Return `|r|` at this threshold."""
        return jnp.clip(amount - threshold, 0, room)

    def total(threshold):
        """Return the L1 norm at this threshold."""
        return jnp.sum(kept(threshold), axis=_PIXELS, keepdims=True)

    def halve(_, interval):
        """Halve the interval of the threshold."""
        low, high = interval
        middle = (low + high) / 2
        inside = total(middle) <= epsilon
        return jnp.where(inside, low, middle), jnp.where(inside, middle, high)

    largest = jnp.max(amount, axis=_PIXELS, keepdims=True, initial=0)
    num_halvings = jnp.finfo(x.dtype).nmant + 2
    _, threshold = lax.fori_loop(
        0, num_halvings, halve, (jnp.zeros_like(largest), largest)
    )
    threshold = jnp.where(total(0) <= epsilon, 0, threshold)
    result = images + jnp.sign(perturbation) * kept(threshold)
    return jnp.clip(result, *bounds)


def norm_l2(perturbation: Array) -> Array:
    """Return the L2 norm of each image, `[B, 1, 1, 1]`; no square overflows."""
    largest = jnp.max(jnp.abs(perturbation), axis=_PIXELS, keepdims=True, initial=0)
    safe = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum((perturbation / safe) ** 2, axis=_PIXELS, keepdims=True)
    return largest * jnp.sqrt(squares)


PROJECTIONS: dict[str, Callable[[Array, Array, Array | float, Bounds], Array]] = {
    "linf": project_linf,
    "l2": project_l2,
    "l1": project_l1,
}
