"""The loop of the fast adaptive boundary attack; see `fab`."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax.attacks import _descent
from advgan_jax.attacks._descent import (
    away,
    rounding,
    select,
    step_off,
    succeeded_clearly,
)
from advgan_jax.attacks._norms import DUALS, LENGTHS, get_norm, per_image
from advgan_jax.attacks._planes import cross
from advgan_jax.attacks._pool import rows_of, run_in_lanes
from advgan_jax.attacks._shortest import (
    Shortest,
    finish,
    keep_shorter,
    nothing_found,
)
from advgan_jax.attacks.deepfool import nearest
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_OVERSHOOT = 1.05
_BACKWARD = 0.9  # share of the perturbation that stays after a success
_MOST_BIASED = 0.1  # the largest weight of the projection of the clean image
_LEAST_LENGTH = 1e-8
# Radii of random starts, before half of the best distance is known.
_RADII = {"linf": 0.3, "l2": 1.0, "l1": 5.0}


class State(NamedTuple):
    """The lanes: one image each."""

    index: Array  # of the image
    images: Array
    labels: Array
    classes: Array  # wanted ones of each run, `[L, num_runs]`
    directions: Array  # off points without a gradient
    run: Array
    step: Array
    x: Array
    found: Shortest


# From the lanes to gaps `[N, L]`, their gradients, and whether these are known, bool.
Boundaries = Callable[[State], tuple[Array, Array, Array]]


def search(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    classes: Array,
    boundaries: Boundaries,
    key: Array | None,
    *,
    norm: str,
    num_steps: int,
    num_restarts: int,
    random_start: bool,
    sufficient_distance: Scalar | None,
    targeted: bool,
    bounds: Bounds,
) -> Array:
    """Run the search from all starts; return the shortest successes."""
    get_norm(norm)
    _descent.check_restarts(num_restarts, random_start)
    own_key = key if random_start else None
    starts = _Starts(own_key, num_restarts, norm, bounds, sufficient_distance)
    directions = away(images, bounds, starts.key)
    everything = images, labels, classes, directions
    num_runs = classes.shape[1]

    def _advance(state: State) -> tuple[State, Array]:
        new = _step(state, boundaries(state), norm, bounds)
        logits = logits_fn(new)
        judged = partial(succeeded_clearly, logits, state.labels, targeted=targeted)
        success, length = judged(), LENGTHS[norm](new - state.images)
        # On the boundary up to rounding all later steps would be too short to cross it.
        reached = judged(confidence=-2 * rounding(logits, state.labels))
        nearer = state.images + _BACKWARD * (new - state.images)
        state = state._replace(
            x=select(reached, nearer, new),
            found=keep_shorter(state.found, new, success, length),
            step=state.step + 1,
        )
        completed = state.step >= num_steps
        state = state._replace(
            run=state.run + completed, step=jnp.where(completed, 0, state.step)
        )
        if num_runs > 1:
            state = state._replace(x=select(completed, starts.of(state), state.x))
        ended = state.run >= num_runs
        if sufficient_distance is not None:
            ended |= state.found.length <= sufficient_distance
        return state, ended

    done = succeeded_clearly(logits_fn(images), labels, targeted=targeted)
    found = run_in_lanes(
        *(partial(_begin, everything), _advance, lambda state: state.found),
        nothing_found(images),
        ~done if num_steps else done & ~done,
    )
    if sufficient_distance is not None:
        return found.images
    return finish(logits_fn, images, labels, found, targeted=targeted)


def _begin(everything: tuple[Array, Array, Array, Array], index: Array | None) -> State:
    """Return states in front of their first step, of all images or of some."""
    index, rows = rows_of(everything, everything[1], index)
    images, labels, classes, directions = rows
    return State(
        *(index, images, labels, classes, directions, 0 * index, 0 * index),
        x=images,
        found=nothing_found(images),
    )


def _step(
    state: State,
    linearised: tuple[Array, Array, Array],
    norm: str,
    bounds: Bounds,
) -> Array:
    """Return the next iterates: on the linearised boundary, near the images."""
    x, images = state.x, state.images
    distance, gap, slope = nearest(*linearised, LENGTHS[DUALS[norm]])
    from_x = cross(x, slope, gap, norm)
    there = gap + jnp.sum(slope * (images - x), axis=pixel_axes(x))
    from_image = cross(images, slope, there, norm)
    near, far = (
        jnp.maximum(LENGTHS[norm](change), _LEAST_LENGTH)
        for change in (from_x, from_image)
    )
    bias = per_image(jnp.minimum(near / (near + far), _MOST_BIASED), x)
    new = (1 - bias) * (x + _OVERSHOOT * from_x)
    new = new + bias * (images + _OVERSHOOT * from_image)
    aside = step_off(x, state.directions, bounds)
    return jnp.clip(select(distance < jnp.inf, new, aside), *bounds)


class _Starts(NamedTuple):
    """Where the runs after the first start."""

    key: Array | None  # None: at the image
    num_restarts: int
    norm: str
    bounds: Bounds
    sufficient: Scalar | None  # distance

    def of(self, state: State) -> Array:
        """Return points within half of the sufficient or of the best distance."""
        if self.key is None:
            return state.images
        key, length = self.key, state.found.length
        size = jnp.where(jnp.isfinite(length), length, _RADII[self.norm]) / 2
        if self.sufficient is not None:
            size = 0 * size + self.sufficient / 2

        def _draw(image: Array, index: Array, run: Array, size: Array) -> Array:
            own = jax.random.fold_in(jax.random.fold_in(key, run), index)
            return get_norm(self.norm).sample(own, image[None], size)[0]

        noise = jax.vmap(_draw)(state.images, state.index, state.run, size)
        moved = jnp.clip(state.images + noise, *self.bounds)
        # The first run towards each class starts at the image.
        return select(state.run % self.num_restarts == 0, state.images, moved)
