"""A pool of lanes: a fixed number of images is attacked side by side.

A lane whose image has ended takes the next one, so that images which need fewer steps
cost less, and nothing compiles anew. See `loops.num_lanes`.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.attacks._descent import select
from advgan_jax.cpu import loops
from advgan_jax.types import Array

_State = TypeVar("_State")
_Result = TypeVar("_Result")


def rows_of(
    everything: _State, labels: Array, index: Array | None
) -> tuple[Array, _State]:
    """Return the numbers of some images, or of all if None, and their rows."""
    if index is None:
        # Under `shard_map` they must vary with the images.
        return jnp.arange(len(labels)) + 0 * labels, everything
    return index, jax.tree.map(lambda rows: rows[index], everything)


def run_in_lanes(
    begin: Callable[[Array | None], _State],
    advance: Callable[[_State], tuple[_State, Array]],
    collect: Callable[[_State], _Result],
    results: _Result,
    active: Array,
) -> _Result:
    """Run one loop per image until its end; return the results in the images' order.

    `begin` makes the states of the images of given numbers `[L]`, or of all. `advance`
    takes a step in each lane and returns which have ended, bool `[L]`. `collect` makes
    the rows of the results from the states. An image that is not `active`, bool `[B]`,
    keeps its row of `results`. All depend on no image but their own.
    """
    num_images = len(active)
    num_lanes = loops.num_lanes(num_images)
    if num_lanes == num_images:
        return _run_abreast(begin(None), advance, collect, results, active)
    # Under `shard_map` `argsort` forgets that its result varies with the images.
    length = jnp.sum(active)
    order = jnp.argsort(~active) + 0 * length

    def _fill(index: Array, state: _State, taken: Array) -> tuple[Array, _State, Array]:
        idle = index >= num_images
        position = taken + jnp.cumsum(idle) - 1
        new = idle & (position < length)
        rows = jnp.take(order, position, mode="clip")
        state = lax.cond(
            jnp.any(new),
            lambda state: select(new, begin(rows), state),
            lambda state: state,
            state,
        )
        return jnp.where(new, rows, index), state, taken + jnp.sum(new)

    def _round(
        carry: tuple[Array, _State, _Result, Array],
    ) -> tuple[Array, _State, _Result, Array]:
        index, state, results, taken = carry
        index, state, taken = _fill(index, state, taken)
        state, ended = advance(state)
        rows = jnp.where(ended, index, num_images)
        results = jax.tree.map(
            lambda every, own: every.at[rows].set(own, mode="drop"),
            *(results, collect(state)),
        )
        return jnp.where(ended, num_images, index), state, results, taken

    def _has_work(carry: tuple[Array, _State, _Result, Array]) -> Array:
        return jnp.any(carry[0] < num_images) | (carry[3] < length)

    # Idle lanes, of whose content only the shapes matter. Under `shard_map` they must
    # vary with the images, like the number of these.
    nobody = 0 * order[:num_lanes] + num_images
    idle: _State = jax.tree.map(
        lambda s: jnp.broadcast_to(0 * length, s.shape).astype(s.dtype),
        jax.eval_shape(begin, nobody),
    )
    return lax.while_loop(_has_work, _round, (nobody, idle, results, 0 * length))[2]


def _run_abreast(
    state: _State,
    advance: Callable[[_State], tuple[_State, Array]],
    collect: Callable[[_State], _Result],
    results: _Result,
    active: Array,
) -> _Result:
    """Run all images side by side; nothing moves from lane to lane, or to a device."""

    def _round(
        carry: tuple[_State, _Result, Array],
    ) -> tuple[_State, _Result, Array]:
        state, results, running = carry
        state, ended = advance(state)
        results = select(ended & running, collect(state), results)
        return state, results, running & ~ended

    carry = state, results, active
    return lax.while_loop(lambda carry: jnp.any(carry[2]), _round, carry)[1]
