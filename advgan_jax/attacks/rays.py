"""RayS: a search over directions of signs that needs the predicted class only.

Deviations: the clean image is the first query. With `epsilon` the attack on an image
ends at the first adversarial image within it, also in the middle of a binary search;
without, it minimises the distance until the queries end. After the finest level the
flips start again at the coarsest. If the search fails, the clean image is returned.
A binary search ends at 0.03 instead of 0.001, which takes a quarter fewer queries. It
first takes growing steps down from the least distance so far: most directions are only
a little better, and on MNIST this takes an eighth fewer queries.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from advgan_jax.attacks._api import images_of
from advgan_jax.attacks._chunks import Signs, all_up, towards
from advgan_jax.attacks._queries import Answered, QueryMethod, State
from advgan_jax.attacks._query_loop import query_attack
from advgan_jax.types import Array, Bounds, Scalar

_CLEAN, _CHECK, _BISECT = 0, 1, 2
_FIRST_STEP = 8  # a step down is at first this part of the distance


class _Ray(NamedTuple):
    """The best direction and the work on the next one."""

    signs: Signs
    radius: Array  # at which the best direction succeeds; infinite at first
    low: Array
    high: Array
    phase: Array
    is_flipped: Array  # False for the first direction


def _next_ray(ray: _Ray, image: Array, tolerance: Scalar, success: Array) -> _Ray:
    """Return the work after an answer to the image at `ray`."""
    is_check, is_bisect = ray.phase == _CHECK, ray.phase == _BISECT
    distance = _distance(ray)
    high = jnp.where(success, distance, ray.high)
    low = jnp.where(is_bisect & ~success, distance, jnp.where(is_check, 0, ray.low))
    exact = high - low <= tolerance / math.sqrt(image.size)
    ended = (is_check & ~success) | (is_bisect & exact)
    better = is_bisect & ended & (high < ray.radius)
    up = jnp.where(better, ray.signs.flipped(ray.is_flipped), ray.signs.up)
    after = ray.signs.next()
    move = ended & ray.is_flipped
    level, chunk = (
        jnp.where(move, a, b) for a, b in zip(after[1:], ray.signs[1:], strict=True)
    )
    phase = jnp.where(ended | (ray.phase == _CLEAN), _CHECK, _BISECT)
    return _Ray(
        signs=Signs(up, level, chunk),
        radius=jnp.where(better, high, ray.radius),
        low=low,
        high=high,
        phase=phase.astype(jnp.int32),
        is_flipped=ray.is_flipped | ended,
    )


def _distance(ray: _Ray) -> Array:
    """Return the distance of the next query from the clean image."""
    middle = (ray.low + ray.high) / 2
    step = jnp.maximum(ray.radius / _FIRST_STEP, 2 * (ray.radius - ray.high))
    is_down = (ray.low == 0) & jnp.isfinite(ray.radius) & (step < ray.high)
    middle = jnp.where(is_down, ray.high - step, middle)
    # Before the first success: the corner of the box.
    far = jnp.minimum(ray.radius, 1)
    return jnp.where(
        ray.phase == _CLEAN, 0, jnp.where(ray.phase == _CHECK, far, middle)
    )


@query_attack(static=(), random=False)
def rays_search(
    *,
    key: Array | None = None,
    epsilon: Scalar | None = None,
    num_queries: int = 10_000,
    tolerance: Scalar = 0.03,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""RayS, which queries predicted classes and minimises an L-infinity distance.

    .. math:: \min_{s \in \{-1, 1\}^n} \min\{r : x + r s \text{ is adversarial}\}

    A direction is first queried at the least distance so far. Only if it succeeds
    there, a binary search finds its own distance. Directions differ by the signs of a
    half, a quarter and so on of the pixels.

    Args:
      epsilon: a distance that suffices, in pixel units; None minimises.
      num_queries: the most queries for each image.
      tolerance: of a binary search, an L2 length of pixels mapped to [0, 1].

    Returns:
      The images, their success and the number of queries for each.

    References:
      Chen & Gu, 2020 (https://arxiv.org/abs/2006.12792), Alg. 1 to 3.
    """
    del key, bounds

    def _start(image: Array, _key: Array, start: Array | None) -> _Ray:
        signs = all_up(image)
        if start is not None:
            signs = signs._replace(up=towards(start, image))
        zero = jnp.asarray(0.0, image.dtype)
        phase, first = jnp.asarray(_CLEAN, jnp.int32), jnp.asarray(False)
        return _Ray(signs, zero + jnp.inf, zero, zero + 1, phase, first)

    def _propose(state: State) -> Array:
        ray = state.own
        up = ray.signs.flipped(ray.is_flipped).reshape(state.image.shape)
        step = _distance(ray)
        return jnp.clip(state.image + jnp.where(up, step, -step), 0, 1)[None]

    def _update(state: State, answered: Answered) -> State:
        ray, success = state.own, answered.success[0]
        moved = jnp.max(jnp.abs(answered.images[0] - state.image))
        near = success if epsilon is None else success & (_distance(ray) <= epsilon)
        better = near & (moved < state.loss)
        done = near & ((ray.phase == _CLEAN) | (epsilon is not None))
        return state._replace(
            best=jnp.where(better, answered.images[0], state.best),
            loss=jnp.where(better, moved, state.loss),
            success=state.success | near,
            done=done,
            own=_next_ray(ray, state.image, tolerance, success),
        )

    return QueryMethod(
        *(_start, _propose, _update, 1, num_queries, targeted, None, epsilon, "linf"),
        random=False,
        takes_start=True,
    )


rays = images_of(
    rays_search, "Adversarial images; the clean image where the search failed."
)
