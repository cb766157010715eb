"""HopSkipJump: descent along the decision boundary, by predicted classes only.

Deviations: the clean image is the first query. The step size halves at most 20 times,
then the point stays; the paper has no limit. The attack on an image ends with its
queries, or within `epsilon` if it is given. A targeted attack starts at noise of the
wanted class, or at `starts` of `blackbox.attack_oracle`; the paper takes an image of
that class. If the search fails, the clean image is returned.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax.attacks._api import images_of
from advgan_jax.attacks._norms import get_norm
from advgan_jax.attacks._queries import Answered, QueryMethod, State
from advgan_jax.attacks._query_loop import query_attack
from advgan_jax.types import Array, Bounds, Scalar

_CLEAN, _DRAW, _BISECT, _ESTIMATE, _STEP = range(5)
_MOST_HALVINGS = 20


class _Hop(NamedTuple):
    """A point that is adversarial, and the work on the next one."""

    phase: Array
    x: Array  # adversarial, close to the boundary after a bisection
    low: Array  # bracket of the share of `x - image` that is adversarial
    high: Array
    step: Array  # number of the iteration, from 1
    count: Array  # of samples, or of halvings
    sums: tuple[Array, Array, Array]  # of u, of the sign of u, of the sign times u
    direction: Array


def _length(change: Array, norm: str) -> Array:
    if norm == "l2":
        return jnp.sqrt(jnp.sum(change**2))
    return jnp.max(jnp.abs(change))


@query_attack(static=("norm", "num_initial_samples"), random=True)
def hop_skip_jump_search(
    *,
    key: Array | None = None,
    epsilon: Scalar | None = None,
    num_queries: int = 10_000,
    num_initial_samples: int = 100,
    norm: str = "l2",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""HopSkipJump, which queries predicted classes and minimises a distance.

    Each iteration goes along an estimate of the boundary's normal, then back to the
    boundary by bisection towards the clean image:

    .. math:: \hat g = \frac{1}{n} \sum_i (\phi(x + \delta u_i) - \bar\phi)\,u_i, \qquad
      x_{t+1} = \mathrm{bisect}(x_t + \tfrac{\lVert x_t - x\rVert}{\sqrt t}
      2^{-k}\,\mathrm{steepest}(\hat g))

    where `phi` is 1 for adversarial points and -1 for others, and `k` is the first
    whole number that succeeds.

    Args:
      epsilon: a distance that suffices, in pixel units; None minimises.
      num_queries: the most queries for each image.
      num_initial_samples: n of the first iteration; it grows like `sqrt(t)`.
      norm: `l2` or `linf`.

    Returns:
      The images, their success and the number of queries for each.

    References:
      Chen et al., 2020 (https://arxiv.org/abs/1904.02144), Alg. 2.
    """
    del key, bounds
    get_norm(norm, ("l2", "linf"))

    def _start(image: Array, _key: Array, start: Array | None) -> _Hop:
        zero, none = jnp.asarray(0.0, image.dtype), jnp.asarray(0, jnp.int32)
        sums = (jnp.zeros_like(image), zero, jnp.zeros_like(image))
        x = image if start is None else start
        return _Hop(none + _CLEAN, x, zero, zero + 1, none, none, sums, 0 * image)

    def _propose(state: State) -> Array:
        hop, image, has_start = state.own, state.image, state.queries == 1
        draws = _draw(state, norm)
        noise = (1 + draws[0]) / 2
        given = jnp.where(has_start & jnp.any(hop.x != image), hop.x, noise)
        points = (
            image,
            given,
            _between(hop, image, (hop.low + hop.high) / 2, norm),
            hop.x + _radius(hop, image, norm) * draws[1],
            hop.x + _step_size(hop, image, norm) * hop.direction,
        )
        return jnp.clip(jnp.select([hop.phase == i for i in range(5)], points), 0, 1)[
            None
        ]

    def _update(state: State, answered: Answered) -> State:
        hop, image, success = state.own, state.image, answered.success[0]
        seen = answered.images[0]
        distance = _length(seen - image, norm)
        near = success if epsilon is None else success & (distance <= epsilon)
        better = near & (distance < state.loss)
        state = state._replace(
            best=jnp.where(better, seen, state.best),
            loss=jnp.where(better, distance, state.loss),
            success=state.success | near,
            done=near & ((hop.phase == _CLEAN) | (epsilon is not None)),
        )
        hop = _after_answer(hop, seen, image, success, norm)
        return state._replace(own=_after_samples(hop, image, num_initial_samples, norm))

    return QueryMethod(
        *(_start, _propose, _update, 1, num_queries, targeted, None, epsilon, norm),
        takes_start=True,
    )


def _after_samples(hop: _Hop, image: Array, initial: int, norm: str) -> _Hop:
    """Estimate the normal of the boundary once there are enough samples."""
    limit = initial * jnp.sqrt(jnp.maximum(hop.step, 1))
    full = (hop.phase == _ESTIMATE) & (hop.count >= limit.astype(jnp.int32))
    total, signs, signed = hop.sums
    mean = signs / jnp.maximum(hop.count, 1)
    # If all answers agree, they say on which side the boundary is.
    normal = jnp.where(jnp.abs(mean) == 1, mean * total, signed - mean * total)
    steepest = get_norm(norm, ("l2", "linf")).steepest
    direction = steepest(normal[None], image[None], (0.0, 1.0))[0]
    return hop._replace(
        phase=jnp.where(full, _STEP, hop.phase),
        direction=jnp.where(full, direction, hop.direction),
        count=jnp.where(full, 0, hop.count),
    )


def _draw(state: State, norm: str) -> Array:
    """Draw numbers of [-1, 1], and a direction of length one, `[2, ...]`."""
    shape, dtype = state.image.shape, state.image.dtype
    uniform = jax.random.uniform(state.step_key, shape, dtype, -1, 1)
    u = uniform
    if norm == "l2":
        limit = 1 - jnp.finfo(dtype).eps
        u = jax.scipy.special.erfinv(jnp.clip(uniform, -limit, limit))  # normal
    u = u / jnp.sqrt(jnp.sum(u**2))
    return jnp.stack([uniform, u])


def _between(hop: _Hop, image: Array, share: Array, norm: str) -> Array:
    """Return the point on the way from the image to `x` at a share of the distance."""
    if norm == "l2":
        return image + share * (hop.x - image)
    reach = share * _length(hop.x - image, norm)
    return jnp.clip(hop.x, image - reach, image + reach)


def _theta(image: Array, norm: str) -> float:
    """Return the tolerance of the bisection, a share of the distance."""
    return image.size ** (-1.5 if norm == "l2" else -2.0)


def _radius(hop: _Hop, image: Array, norm: str) -> Array:
    """Return delta, the distance of the samples."""
    root = image.size**0.5 if norm == "l2" else image.size
    far = root * _theta(image, norm) * _length(hop.x - image, norm)
    return jnp.where(hop.step <= 1, 0.1, far)


def _step_size(hop: _Hop, image: Array, norm: str) -> Array:
    """Return the length of the step of an iteration after `count` halvings."""
    start = _length(hop.x - image, norm) / jnp.sqrt(jnp.maximum(hop.step, 1))
    return start * 0.5**hop.count


def _after_answer(
    hop: _Hop, seen: Array, image: Array, success: Array, norm: str
) -> _Hop:
    """Return the work after an answer, but for the end of an estimate."""
    draws, bisects, estimates, steps = (
        hop.phase == i for i in (_DRAW, _BISECT, _ESTIMATE, _STEP)
    )
    middle = (hop.low + hop.high) / 2
    high = jnp.where(bisects & success, middle, hop.high)
    low = jnp.where(bisects & ~success, middle, hop.low)
    least = jnp.maximum(_theta(image, norm), jnp.finfo(image.dtype).eps)
    on_boundary = bisects & (high - low <= least)
    halted = steps & ~success & (hop.count >= _MOST_HALVINGS)
    found = (draws | steps) & success
    at_high = _between(hop, image, high, norm)
    x = jnp.where(found, seen, jnp.where(on_boundary, at_high, hop.x))
    sign = jnp.where(success, 1.0, -1.0).astype(image.dtype)
    delta = _radius(hop, image, norm)
    u = (seen - hop.x) / jnp.maximum(delta, jnp.finfo(image.dtype).tiny)
    begin = on_boundary | halted
    total, signs, signed = hop.sums
    added = (total + u, signs + sign, signed + sign * u)
    sums = jax.tree.map(
        lambda new, old: jnp.where(begin, 0, jnp.where(estimates, new, old)),
        added,
        hop.sums,
    )
    count = hop.count + (estimates | (steps & ~success))
    phase = jnp.where(hop.phase == _CLEAN, _DRAW, hop.phase)
    phase = jnp.where(found, _BISECT, jnp.where(begin, _ESTIMATE, phase))
    return hop._replace(
        phase=phase.astype(jnp.int32),
        x=x,
        low=jnp.where(found, 0, low),
        high=jnp.where(found, 1, high),
        step=hop.step + begin,
        count=jnp.where(begin | found, 0, count),
        sums=sums,
    )


hop_skip_jump = images_of(
    hop_skip_jump_search, "Adversarial images; the clean image where the search failed."
)
