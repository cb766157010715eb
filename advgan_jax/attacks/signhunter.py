"""SignHunter: the signs of the gradient by divide and conquer.

Deviations: after the finest level the search starts again at the coarsest one, with
the signs it has, while the released code also moves the centre to the best image. All
queried images are in the box, while the released code compares images outside of it.
Each queried image may be the result, while the released code checks only the best one.
The clean image is not queried. `first_level` and `middle_first` are ours.
"""

import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from advgan_jax.attacks._api import images_of
from advgan_jax.attacks._chunks import Signs, all_up, towards
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


class _Own(NamedTuple):
    """The state of the search; `start` is the first proposal, if given."""

    signs: Signs
    start: Array | None


@query_attack(static=("norm", "loss", "first_level", "middle_first"), random=False)
def signhunter_search(
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_queries: int = 1_000,
    norm: str = "linf",
    loss: str = "cross_entropy",
    first_level: int = 0,
    middle_first: bool = False,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""SignHunter, which queries scores at the corners of the ball.

    It flips the signs of all pixels, of each half, of each quarter and so on, and keeps
    a flip if the loss falls:

    .. math:: x_s = \Pi(x + \epsilon\,s), \qquad s \in \{-1, 1\}^n

    In L2 the step is `epsilon / sqrt(n)`.

    Args:
      num_queries: the most queries for each image.
      norm: `linf` or `l2`.
      first_level: the search begins with `2**first_level` chunks of pixels. Chunks are
        strips of rows. A flip of half an image changes few predictions.
      middle_first: whether a level flips its middle chunks first, where objects are.

    Returns:
      The images, their success and the number of queries for each.

    References:
      Al-Dujaili & O'Reilly, 2020 (https://openreview.net/forum?id=SygW0TEFwH), Alg. 1.
    """
    del key, bounds
    get_norm(norm, ("linf", "l2"))

    _flipped = partial(Signs.flipped, middle_first=middle_first)

    def _start(image: Array, _key: Array, start: Array | None) -> _Own:
        signs = all_up(image, first_level)
        if not 0 <= first_level < signs.num_levels:
            raise ValueError(
                f"`first_level` must be from 0 to {signs.num_levels - 1} for images of "
                f"{image.size} numbers, got {first_level}."
            )
        if start is not None:
            signs = signs._replace(up=towards(start, image))
        return _Own(signs, start)

    def _propose(state: State) -> Array:
        signs, start = state.own
        up = _flipped(signs, state.queries > 0).reshape(state.image.shape)
        step = epsilon if norm == "linf" else epsilon / math.sqrt(up.size)
        x = state.image + jnp.where(up, step, -step)
        if start is not None:
            x = jnp.where(state.queries == 0, start, x)
        return project(x[None], state.image, epsilon, norm)

    def _update(state: State, answered: Answered) -> State:
        signs, is_first = state.own.signs, state.queries == 0
        better = answered.losses[0] < state.loss
        up = jnp.where(better, _flipped(signs, ~is_first), signs.up)
        after = signs.next()
        level = jnp.where(is_first, signs.level, after.level)
        chunk = jnp.where(is_first, signs.chunk, after.chunk)
        own = state.own._replace(signs=Signs(up, level, chunk))
        return keep_best(state, answered)._replace(own=own)

    return QueryMethod(
        _start,
        _propose,
        _update,
        1,
        num_queries,
        targeted,
        loss,
        epsilon,
        norm,
        False,
        True,
    )


signhunter = images_of(
    signhunter_search, "The best images found, within the ball and `bounds`."
)
