r"""Keep curvature pairs and multiply by the inverse Hessian, batched and masked.

For each problem the memory holds the last `m` pairs `s = x_{k+1} - x_k`,
`y = g_{k+1} - g_k`, oldest first; a new pair shifts the others. Unused slots hold
zeros, which the curvature test skips.

References:
  Nocedal & Wright, Numerical Optimization, 2nd ed., 2006, Algorithm 7.4.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from advgan_jax.types import Array


class Memory(NamedTuple):
    """Curvature pairs of `B` problems; slot `m - 1` is the newest."""

    steps: Array  # `s`, `[B, m, ...]`
    gradient_changes: Array  # `y`, `[B, m, ...]`
    count: Array  # pairs held, int32 `[B]`, at most `m`


def dot(a: Array, b: Array) -> Array:
    """Return the inner product of each problem: `[B, ...]`, `[B, ...]` -> `[B]`."""
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))


def expand(per_problem: Array, like: Array) -> Array:
    """Give a `[B]` array the trailing axes of `like`, each of size one."""
    return per_problem.reshape(per_problem.shape + (1,) * (like.ndim - 1))


def select(condition: Array, new: Array, old: Array) -> Array:
    """Take `new` for the problems where `condition` `[B]` holds, else `old`."""
    return jnp.where(expand(condition, new), new, old)


def blank(like: Array, dtype: DTypeLike | None = None) -> Array:
    """Return zeros like `like`; under `shard_map` they vary over the same axes."""
    return (like < like).astype(like.dtype if dtype is None else dtype)


def empty_memory(x: Array, size: int) -> Memory:
    """Return a memory of `size` unused slots for problems shaped like `x`."""
    slots = jnp.repeat(blank(x)[:, None], size, axis=1)
    return Memory(slots, slots, dot(blank(x), blank(x)).astype(jnp.int32))


def has_curvature(s: Array, y: Array) -> Array:
    r"""Return whether `s^T y > eps ||s|| ||y||`, `[B]`, and neither is tiny."""
    return _curvature_suffices(dot(s, y), dot(s, s), dot(y, y))


def _curvature_suffices(sy: Array, ss: Array, yy: Array) -> Array:
    """Test the curvature of pairs by their inner products."""
    info = jnp.finfo(sy.dtype)
    enough = sy > info.eps * jnp.sqrt(ss) * jnp.sqrt(yy)
    return enough & (sy > info.tiny) & (yy > info.tiny)


def push(memory: Memory, s: Array, y: Array, where: Array) -> Memory:
    """Add the pair of each problem in `where` `[B]` as the newest."""

    def _shift(slots: Array, new: Array) -> Array:
        return jnp.concatenate([slots[:, 1:], new[:, None]], axis=1)

    count = jnp.minimum(memory.count + 1, memory.steps.shape[1])
    return Memory(
        select(where, _shift(memory.steps, s), memory.steps),
        select(where, _shift(memory.gradient_changes, y), memory.gradient_changes),
        jnp.where(where, count, memory.count),
    )


def clear(memory: Memory, where: Array) -> Memory:
    """Remove all pairs of the problems in `where` `[B]`."""
    return jax.tree.map(lambda a: select(where, jnp.zeros_like(a), a), memory)


def inverse_hessian_product(
    memory: Memory, vector: Array, free: Array, scale: Array
) -> Array:
    r"""Multiply by the L-BFGS inverse Hessian of the free variables.

    .. math::
        H_{k+1} = (I - \rho s y^T) H_k (I - \rho y s^T) + \rho s s^T,
        \quad \rho = 1 / s^T y, \quad H_0 = \gamma I,

    with `s` and `y` restricted to the variables that are `free`, bool `[B, ...]`; the
    product with `vector` `[B, ...]` is zero elsewhere. It skips pairs whose restriction
    has no positive curvature. `gamma` is `s^T y / y^T y` of the newest usable pair, or
    `scale` `[B]` without one.
    """
    # Curvatures of all slots at once: inside the loops they took most of the time.
    batch, size = memory.steps.shape[:2]
    length = math.prod(vector.shape[1:])
    free = free.reshape(batch, length)
    s, y = (
        jnp.where(free[:, None], slots.reshape(batch, size, length), 0)
        for slots in (memory.steps, memory.gradient_changes)
    )
    sy, ss, yy = (jnp.sum(a * b, axis=-1) for a, b in ((s, y), (s, s), (y, y)))
    usable = _curvature_suffices(sy, ss, yy)
    rho = usable / jnp.where(usable, sy, 1)
    newest = size - 1 - jnp.argmax(usable[:, ::-1], axis=1)
    ratio = jnp.where(usable, sy, 1) / jnp.where(usable, yy, 1)
    gamma = jnp.take_along_axis(ratio, newest[:, None], axis=1)[:, 0]
    gamma = jnp.where(jnp.any(usable, axis=1), gamma, scale)

    def _newest_to_oldest(q: Array, pair: tuple[Array, ...]) -> tuple[Array, Array]:
        s, y, rho = pair
        alpha = rho * dot(s, q)
        return q - expand(alpha, q) * y, alpha

    def _oldest_to_newest(r: Array, pair: tuple[Array, ...]) -> tuple[Array, None]:
        s, y, rho, alpha = pair
        return r + expand(alpha - rho * dot(y, r), r) * s, None

    pairs = tuple(jnp.moveaxis(a, 1, 0) for a in (s, y, rho))
    q = jnp.where(free, vector.reshape(batch, length), 0)
    q, alphas = lax.scan(_newest_to_oldest, q, pairs, reverse=True)
    r, _ = lax.scan(_oldest_to_newest, expand(gamma, q) * q, (*pairs, alphas))
    return r.reshape(vector.shape)
