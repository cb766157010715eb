"""DeepFool: steps across the nearest decision boundary of the linearised model.

Deviations: every iterate is clipped to the box. Where the clipped step would close less
than half of the gap, pixels at an edge that it would push out take no part in it. The
released code makes every step longer by 0.0001; here it is less for small perturbations
(see `_extra`). Where no class has a usable gradient, a step goes in a random direction.
The attack moves away from `labels`, not from the prediction. A targeted form crosses
the boundary between the wanted class and the best other one. An iterate, as well as the
clean image, succeeds only if its margin exceeds the rounding of the logits.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import (
    away,
    select,
    step_off,
    succeeded,
    succeeded_clearly,
)
from advgan_jax.attacks._norms import DUALS, LENGTHS, get_norm, per_image
from advgan_jax.projections import norm_l2, pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

# Classes of the largest logits among which `nearest_classes` searches.
_NUM_CANDIDATES = 10
# A step that the box shortens is as good as Foolbox's if at least so much of it stays.
# Without the pixels at the edges each step is longer, and on digits so is the whole
# perturbation, by 7 % in L2 and 9 % in L-infinity.
_FITS = 0.5
# What `_extra` adds to a step: at least so much a pixel, so that it exceeds rounding;
# this share of the perturbation; at most so much, in widths of the box.
_LEAST_EXTRA = 1e-6
_SHARE_EXTRA = 2e-3
_MOST_EXTRA = 1e-4


class _State(NamedTuple):
    """One search per image."""

    step: Array
    perturbation: Array  # before the overshoot
    x: Array
    logits: Array
    active: Array


@attack(static=("num_steps", "norm", "num_candidates"), unit=True)
def deepfool(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_steps: int = 50,
    overshoot: Scalar = 0.02,
    norm: str = "l2",
    num_candidates: int | None = None,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""DeepFool: cross the nearest boundary of the linearised model.

    .. math:: r_k = \frac{|f_l|}{\lVert w_l\rVert_2^2} w_l, \qquad
      l = \arg\min_{i \ne y} \frac{|f_i|}{\lVert w_i\rVert_2}, \qquad
      f_i = Z_i - Z_y, \; w_i = \nabla Z_i - \nabla Z_y

    Steps are added until `x + (1 + overshoot) sum(r)` is misclassified. In L-infinity
    the dual norm is the sum of `|w|`, and the step follows the sign of `w`.

    Args:
      num_steps: maximum number of linearisations.
      overshoot: relative overshoot beyond the boundary.
      norm: `l2` or `linf`.
      num_candidates: number of classes that a step considers, those of the largest
        logits; None: all. Each costs a backward pass per step.

    Returns:
      Adversarial images; the clean image where the search failed, for example because
      `num_steps` is too small (see `Evaluation.unchanged`).

    References:
      Moosavi-Dezfooli et al., 2016 (https://arxiv.org/abs/1511.04599), Alg. 2 and
      Sec. 3.3.
    """
    del key
    ball = get_norm(norm, ("l2", "linf"))
    dual = LENGTHS[DUALS[norm]]

    directions = away(images, bounds)

    def _move(state: _State) -> Array:
        classes = _candidates(state.logits, labels, num_candidates, targeted)
        gaps, gradients = linearise(logits_fn, state.x, labels, classes, targeted)
        others = labels != classes.T
        extra = _extra(state.perturbation, norm, bounds)

        def _cross(gradients: Array) -> tuple[Array, Array, Array]:
            distance, _, gradient = nearest(gaps, gradients, others, dual)
            found = jnp.isfinite(distance)
            length = per_image(jnp.where(found, distance, 0), images) + extra
            return length * ball.steepest(gradient, state.x, bounds), gradient, found

        free, gradient, found = _cross(gradients)
        clipped = jnp.clip(state.x + free, *bounds) - state.x
        fits = found & (_dot(clipped, gradient) >= _FITS * _dot(free, gradient))
        inside, _, possible = _cross(_inward(gradients, state.x, bounds))
        aside = step_off(state.x, directions, bounds) - state.x
        return select(fits, free, select(possible, inside, aside))

    def _step(state: _State) -> _State:
        perturbation = state.perturbation + _move(state)
        x = jnp.clip(images + (1 + overshoot) * perturbation, *bounds)
        x = select(state.active, x, state.x)
        logits = logits_fn(x)
        done = succeeded_clearly(logits, labels, targeted=targeted)
        # The next step begins at the perturbation clipped to the box.
        kept = jnp.clip(images + perturbation, *bounds) - images
        return _State(state.step + 1, kept, x, logits, state.active & ~done)

    logits = logits_fn(images)
    done = succeeded_clearly(logits, labels, targeted=targeted)
    start = _State(jnp.asarray(0), jnp.zeros_like(images), images, logits, ~done)
    end = lax.while_loop(
        lambda s: (s.step < num_steps) & jnp.any(s.active), _step, start
    )
    verdict = succeeded(logits_fn(end.x), labels, targeted=targeted)
    return select(verdict, end.x, images)


def _extra(perturbation: Array, norm: str, bounds: Bounds) -> Array:
    """Return the length that the next step has in addition, `[B, 1, ...]`.

    Without it a step would have no length at a tie, and steps that the box shortens
    would end in front of the boundary.
    """
    axes, width = pixel_axes(perturbation), bounds[1] - bounds[0]
    if norm == "l2":
        size = norm_l2(perturbation)
        least = _LEAST_EXTRA * math.sqrt(math.prod(perturbation.shape[1:]))
    else:
        size = jnp.max(jnp.abs(perturbation), axis=axes, keepdims=True, initial=0)
        least = _LEAST_EXTRA
    most = jnp.minimum(_SHARE_EXTRA * size, _MOST_EXTRA * width)
    return jnp.maximum(least * width, most)


def _dot(a: Array, b: Array) -> Array:
    """Return the inner product of each image, `[B]`."""
    return jnp.sum(a * b, axis=pixel_axes(a))


def _inward(direction: Array, x: Array, bounds: Bounds) -> Array:
    """Return `direction`, with 0 where it would push a pixel out of the box."""
    outward = ((x <= bounds[0]) & (direction < 0)) | (
        (x >= bounds[1]) & (direction > 0)
    )
    return jnp.where(outward, 0, direction)


def _candidates(
    logits: Array, labels: Array, num_candidates: int | None, targeted: bool
) -> Array:
    """Return the classes whose boundaries are considered, `[B, N]`."""
    num_others = logits.shape[-1] - 1
    hidden = jax.nn.one_hot(labels, num_others + 1, dtype=bool)
    others = jnp.where(hidden, -jnp.inf, logits)
    if targeted:
        return jnp.argmax(others, axis=-1)[:, None]
    return lax.top_k(others, min(num_candidates or num_others, num_others))[1]


def linearise(
    logits_fn: LogitsFn, x: Array, labels: Array, classes: Array, targeted: bool
) -> tuple[Array, Array]:
    """Return gaps `[N, B]`, positive after success, and gradients `[N, B, ...]`."""
    logits, pull_back = jax.vjp(logits_fn, x)
    seeds = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    seeds -= jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)[:, None]
    seeds = (-seeds if targeted else seeds).swapaxes(0, 1)
    gradients = jax.vmap(lambda seed: pull_back(seed)[0])(seeds)
    # A class whose gradient is not finite has no boundary that a step could cross.
    gradients = jnp.where(jnp.isfinite(gradients), gradients, 0)
    return _change(seeds, logits), gradients


def _change(seeds: Array, logits: Array) -> Array:
    """Return the inner product with `seeds`; a masked class, `-inf` times 0, adds 0."""
    return jnp.sum(jnp.where(seeds == 0, 0, seeds * logits), axis=-1)


def nearest(
    gaps: Array, gradients: Array, known: Array, dual: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """Return the distance to the nearest boundary, its gap `[B]` and its gradient.

    The distance is infinite where no `known` class, bool `[N, B]`, has a gradient.
    """
    slopes = jax.vmap(dual)(gradients)
    distances = jnp.abs(gaps) / jnp.where(slopes > 0, slopes, 1)
    distances = jnp.where(known & (slopes > 0), distances, jnp.inf)
    index, lane = jnp.argmin(distances, axis=0), jnp.arange(gaps.shape[1])
    return distances[index, lane], gaps[index, lane], gradients[index, lane]


def nearest_classes(
    logits_fn: LogitsFn, images: Array, labels: Array, bounds: Bounds
) -> Array:
    r"""Return the class whose boundary is nearest by the linearised model.

    .. math:: \arg\min_{k \ne y}
        \frac{Z_y - Z_k}{\lVert \nabla Z_k - \nabla Z_y\rVert_2}

    The result is int32 `[B]`, among the ten classes of the largest logits. A pixel at
    an edge of the box counts only if it would move inwards.
    """
    logits, pull_back = jax.vjp(lambda x: logits_fn(x).astype(x.dtype), images)
    num_classes = logits.shape[-1]
    own = jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
    candidates = _candidates(logits, labels, _NUM_CANDIDATES, targeted=False).T

    def _distance(classes: Array) -> Array:
        seeds = jax.nn.one_hot(classes, num_classes, dtype=logits.dtype) - own
        slope = norm_l2(_inward(pull_back(seeds)[0], images, bounds)).reshape(-1)
        distance = -_change(seeds, logits) / jnp.where(slope > 0, slope, 1)
        return jnp.where(slope > 0, distance, jnp.inf)

    nearest = jnp.argmin(lax.map(_distance, candidates), axis=0)
    return jnp.take_along_axis(candidates, nearest[None], axis=0)[0]
