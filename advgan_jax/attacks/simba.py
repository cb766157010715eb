"""SimBA: one pixel after another, up or down.

Deviations: the perturbation has a bound, `epsilon`, onto which each step is projected;
the paper reports the norm that results. `step_size` is `epsilon` by default, which
makes each step in L-infinity a corner. After the last pixel the order starts again.
Only the pixel basis is here. The first query is the clean image, as the paper needs it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax.attacks._api import images_of
from advgan_jax.attacks._norms import get_norm
from advgan_jax.attacks._queries import (
    Answered,
    QueryMethod,
    State,
    keep_best,
    project,
)
from advgan_jax.attacks._query_loop import query_attack
from advgan_jax.types import Array, Bounds, Scalar


class _Walk(NamedTuple):
    """The order of the pixels, the place in it, and whether minus is next."""

    order: Array
    place: Array
    minus: Array


@query_attack(static=("norm", "loss"), random=True)
def simba_search(
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_queries: int = 10_000,
    step_size: Scalar | None = None,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""Simple black-box attack, which changes one pixel at a time.

    For each pixel `e` of a random order, keep the first of two steps that lowers the
    loss, if any:

    .. math:: x_{k+1} \in \{\Pi(x_k + \alpha e),\ \Pi(x_k - \alpha e),\ x_k\}

    Args:
      num_queries: the most queries for each image.
      step_size: `alpha`, in pixel units; None for epsilon.
      norm: `linf` or `l2`.

    Returns:
      The images, their success and the number of queries for each.

    References:
      Guo et al., 2019 (https://arxiv.org/abs/1905.07121), Alg. 1.
    """
    del key, bounds
    get_norm(norm, ("linf", "l2"))
    size = epsilon if step_size is None else step_size

    def _start(image: Array, key: Array, _start: Array | None) -> _Walk:
        order = jax.random.permutation(key, image.size)
        return _Walk(order, jnp.asarray(0, jnp.int32), jnp.asarray(False))

    def _propose(state: State) -> Array:
        walk = state.own
        chosen = jnp.arange(state.image.size) == walk.order[walk.place]
        step = jnp.where(walk.minus, -size, size) * (state.queries > 0)
        x = state.best + jnp.where(chosen, step, 0).reshape(state.image.shape)
        return project(x[None], state.image, epsilon, norm)

    def _update(state: State, answered: Answered) -> State:
        walk, is_first = state.own, state.queries == 0
        finished = walk.minus | (answered.losses[0] < state.loss)
        after = (walk.place + (finished & ~is_first)) % len(walk.order)
        walk = walk._replace(place=after, minus=~finished & ~is_first)
        return keep_best(state, answered)._replace(own=walk)

    return QueryMethod(
        _start, _propose, _update, 1, num_queries, targeted, loss, epsilon, norm
    )


simba = images_of(simba_search, "The best images found, within the ball and `bounds`.")
