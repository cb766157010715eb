"""Shortest changes that reach a plane, and the largest entries that they consist of."""

import jax.numpy as jnp
from jax import lax

from advgan_jax.attacks._norms import per_image
from advgan_jax.cpu import loops
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array

# Newton's method on a concave function of kinks is exact after as many steps as kinks
# lie in front of the root, and close to it after few.
_NUM_NEWTON = 12


def least_of_largest(values: Array, weights: Array, total: Array) -> Array:
    """Return where the largest entries of each image end, `[B]`.

    That is the largest entry for which it and all larger ones have weights of `total`
    `[B]` or more; 0 if all of them have less. No entry of `values` is negative.
    """
    axes, dtype = pixel_axes(values), values.dtype
    bits = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[dtype.itemsize]
    # Numbers above 0 are in the order of their bits. Sorting is slow in XLA on CPU.
    ranks = lax.bitcast_convert_type(values, bits)

    def _halve(_: Array, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = interval
        middle = low + (high - low) // 2
        chosen = jnp.where(ranks >= per_image(middle, values), weights, 0)
        enough = jnp.sum(chosen, axis=axes) >= total
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    high = jnp.max(ranks, axis=axes, initial=0) + 1
    interval = lax.fori_loop(0, 8 * dtype.itemsize - 1, _halve, (0 * high, high))
    return lax.bitcast_convert_type(interval[0], dtype)


def cross(x: Array, slope: Array, gap: Array, norm: str) -> Array:
    r"""Return the shortest change within [0, 1] that closes a linear gap.

    .. math:: \min \lVert d\rVert \quad\text{with}\quad
        f + \langle w, d\rangle = 0, \quad 0 \le x + d \le 1

    `slope` is `w`, and `gap` is `f`, `[B]`. Where no such change exists, all pixels go
    to their edges.
    """
    axes = pixel_axes(x)
    slope = -per_image(jnp.sign(gap), x) * slope
    target = jnp.abs(gap)
    weights = jnp.abs(slope)
    room = jnp.where(slope > 0, 1 - x, x)
    room = jnp.where(weights > 0, room, 0)
    gains = weights * room
    if norm == "l1":
        least = per_image(least_of_largest(weights, gains, target), x)
        above = weights > least
        rest = target - jnp.sum(jnp.where(above, gains, 0), axis=axes)
        level = jnp.sum(jnp.where(weights == least, gains, 0), axis=axes)
        share = jnp.clip(rest / jnp.where(level > 0, level, 1), 0, 1)
        size = jnp.where(above, room, per_image(share, x) * room)
        return jnp.sign(slope) * jnp.where(weights >= least, size, 0)
    # Each pixel moves by the multiple of its speed, as far as it has room.
    speeds = weights if norm == "l2" else jnp.where(weights > 0, 1.0, 0.0)

    def _newton(multiple: Array) -> Array:
        moved = per_image(multiple, x) * speeds
        gained = jnp.sum(weights * jnp.minimum(moved, room), axis=axes)
        rate = jnp.sum(jnp.where(moved < room, weights * speeds, 0), axis=axes)
        missing = (target - gained) / jnp.where(rate > 0, rate, 1)
        return multiple + jnp.where(rate > 0, jnp.maximum(missing, 0), 0)

    multiple = loops.repeat(_newton, 0 * target, _NUM_NEWTON)
    out_of_reach = per_image(target >= jnp.sum(gains, axis=axes), x)
    size = jnp.minimum(per_image(multiple, x) * speeds, room)
    return jnp.sign(slope) * jnp.where(out_of_reach, room, size)
