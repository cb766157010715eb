"""Carlini & Wagner's L2 attack: the smallest perturbation, by a search over c.

Deviations: the tanh that keeps pixels in the box is stretched by five percent beyond it
and clipped. So pixels that are exactly 0 or 1 (most of MNIST) have a finite `w` with a
nonzero gradient. The search starts at the clean image itself. Each image has its own c
and its own early stop, and the last iterate counts too. Pixels of other bounds are
mapped to [0, 1], where the constants apply. An iterate, as well as the clean image,
succeeds only if its margin exceeds the rounding of the logits. From a point without a
usable gradient a step goes in a random direction. Finally the model judges the returned
images.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.attacks._adam import Adam, begin, take_step
from advgan_jax.attacks._api import attack, images_of
from advgan_jax.attacks._descent import (
    away,
    select,
    succeeded,
    succeeded_clearly,
)
from advgan_jax.attacks._pool import rows_of, run_in_lanes
from advgan_jax.projections import clip_inward, pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

# The tanh exceeds the box by this factor. At an edge its slope is then about a tenth of
# that in the middle, instead of 0, and `w` is 1.9 instead of infinite.
_STRETCH = 1.05
# As released: an image stops when a tenth of the steps improves less than 0.01 percent.
_CHECKS_PER_RUN = 10
_STALLED = 0.9999
# Growth of c until the first success.
_GROWTH = 10.0


class CarliniWagnerResult(NamedTuple):
    """The result of the search for each image.

    Attributes:
      images: adversarial images; the clean ones where the search failed.
      success: bool `[B]`, whether the search found an image that succeeds by
        `confidence`. (With `confidence > 0` the model may misclassify a clean image
        where this is False.)
      loss_weight: the c at which each was found, `[B]`, of pixels mapped to [0, 1]; 0
        where the clean image succeeds by itself, NaN where the search failed.
      l2: the norm of each perturbation, in pixel units, `[B]`; infinite where the
        search failed.
    """

    images: Array
    success: Array
    loss_weight: Array
    l2: Array


class _Best(NamedTuple):
    """The best image so far."""

    images: Array
    squares: Array  # of the L2 norm; infinite before the first success
    c: Array


class WeightSearch(NamedTuple):
    """The search over c of each image, and the best images so far."""

    best: Any
    c: Array
    lower: Array
    upper: Array


class _State(NamedTuple):
    """The lanes: one image each; a run is a minimisation at one c."""

    images: Array
    labels: Array
    directions: Array  # off points without a gradient
    adam: Adam
    checked: Array  # the objective at the last check of this run
    stalled: Array
    found: Array  # whether an iterate of this run succeeded
    search: WeightSearch
    runs: Array  # completed


def _begin(
    everything: tuple[Array, Array, Array, _Best],
    initial: Scalar,
    bounds: Bounds,
    index: Array | None,
) -> _State:
    """Return states in front of their first step, of all images or of some."""
    zero, rows, best = begin_lanes(everything, bounds, index)
    nothing = zero.astype(best.images.dtype)
    return _State(
        *(*rows, nothing + jnp.inf, zero < 0, zero < 0),
        WeightSearch(best, nothing + initial, nothing, nothing + jnp.inf),
        runs=zero,
    )


def begin_lanes(
    everything: tuple[Array, Array, Array, Any], bounds: Bounds, index: Array | None
) -> tuple[Array, tuple[Array, Array, Array, Adam], Any]:
    """Return what lanes of both attacks begin with, of all images or of some.

    That is an integer 0 for each; images, labels, directions and Adam; the best.
    """
    index, rows = rows_of(everything, everything[1], index)
    images, labels, directions, best = rows
    adam = begin(encode(images, bounds), 0 * index)
    return 0 * index, (images, labels, directions, adam), best


def _next_run(state: _State, over: Array, bounds: Bounds) -> _State:
    """Begin a run at the next c where one is `over`."""
    again = begin(encode(state.images, bounds), 0 * state.adam.step)
    return state._replace(
        adam=select(over, again, state.adam),
        checked=jnp.where(over, jnp.inf, state.checked),
        stalled=state.stalled & ~over,
        found=state.found & ~over,
        search=select(over, next_weight(state.search, state.found), state.search),
        runs=state.runs + over,
    )


def next_weight(state: WeightSearch, found: Array) -> WeightSearch:
    """Halve the bracket of each image; grow c while it has no upper end."""
    upper = jnp.where(found, jnp.minimum(state.upper, state.c), state.upper)
    lower = jnp.where(found, state.lower, jnp.maximum(state.lower, state.c))
    bracketed = jnp.isfinite(upper)
    middle = (lower + jnp.where(bracketed, upper, 0)) / 2
    c = jnp.where(bracketed, middle, state.c * _GROWTH)
    return WeightSearch(state.best, c, lower, upper)


def decode(w: Array, bounds: Bounds) -> Array:
    r"""Return `clip((l+h)/2 + s (h-l)/2 tanh(w), l, h)`; see `clip_inward`."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    low, high = (jnp.asarray(bound, w.dtype) for bound in bounds)
    return clip_inward(middle + _STRETCH * half * jnp.tanh(w), low, high)


def encode(images: Array, bounds: Bounds) -> Array:
    """Return the `w` of images within `bounds`; finite at 0 and 1 as well."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    return jnp.arctanh((images - middle) / (_STRETCH * half))


@attack(static=("num_search_steps", "num_steps"), unit=True)
def carlini_wagner_l2_search(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_search_steps: int = 9,
    num_steps: int = 1000,
    learning_rate: Scalar = 1e-2,
    initial_loss_weight: Scalar = 1e-3,
    confidence: Scalar = 0.0,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> CarliniWagnerResult:
    r"""Carlini & Wagner's L2 attack.

    .. math:: \min_w \lVert x'(w) - x\rVert_2^2 + c\,
      \max(\pm(Z_y - \max_{i \ne y} Z_i), -\kappa), \qquad
      x'(w) = \tfrac{l+h}{2} + \tfrac{h-l}{2}\tanh w

    Adam minimises it for a sequence of c. For each image a bisection searches for the
    smallest c that succeeds. The tanh is stretched and clipped: see the module.

    With few steps the search often finds nothing and returns the clean image: Adam
    moves `w` by about `learning_rate` a step. `success` of `carlini_wagner_l2_search`
    and `Evaluation.unchanged` mark these images.

    Args:
      num_search_steps: number of values of c: tenfold until one succeeds, then
        bisection.
      num_steps: maximum number of Adam steps for each c. (The released code takes up to
        10,000.)
      learning_rate: of Adam, in `w`.
      initial_loss_weight: the first c, of pixels mapped to [0, 1].

    Returns:
      The images, and the norm and the c of each.

    References:
      Carlini & Wagner, 2017 (https://arxiv.org/abs/1608.04644), Sec. VI-A.
    """
    del key
    options = {"targeted": targeted, "confidence": confidence}
    interval = max(num_steps // _CHECKS_PER_RUN, 1)

    def _evaluate(w: Array, state: _State) -> tuple[Array, Any]:
        x, c = decode(w, bounds), state.search.c
        logits = logits_fn(x)
        squares = jnp.sum((x - state.images) ** 2, axis=pixel_axes(x))
        objective = squares + c * losses.margin(logits, state.labels, **options)
        success = succeeded_clearly(logits, state.labels, **options)
        return jnp.sum(objective), (objective, _Best(x, squares, c), success)

    def _advance(state: _State) -> tuple[_State, Array]:
        gradient, (objective, new, success) = jax.grad(_evaluate, has_aux=True)(
            state.adam.w, state
        )
        best, step = state.search.best, state.adam.step
        best = select(success & (new.squares < best.squares), new, best)
        # The iterate after the last step counts, too.
        over = state.stalled | (step >= num_steps)
        due = step % interval == 0
        step_of = state.adam, gradient, success, learning_rate, state.directions
        state = state._replace(
            adam=take_step(*step_of),
            checked=jnp.where(due, objective, state.checked),
            stalled=due & (objective > _STALLED * state.checked),
            found=state.found | success,
            search=state.search._replace(best=best),
        )
        state = _next_run(state, over, bounds)
        return state, state.runs >= num_search_steps

    done = succeeded_clearly(logits_fn(images), labels, **options)
    nothing = jnp.where(done, 0, jnp.inf).astype(images.dtype)
    start = _Best(images, nothing, nothing)
    everything = images, labels, away(images, bounds), start
    best = run_in_lanes(
        *(partial(_begin, everything, initial_loss_weight, bounds), _advance),
        *(lambda state: state.search.best, start),
        ~done,
    )
    verdict = succeeded(logits_fn(best.images), labels, targeted=targeted)
    return _result(images, best, verdict & jnp.isfinite(best.squares))


def _result(images: Array, best: _Best, success: Array) -> CarliniWagnerResult:
    """Return what the attack found, the clean image without success."""
    return CarliniWagnerResult(
        images=select(success, best.images, images),
        success=success,
        loss_weight=jnp.where(success, best.c, jnp.nan),
        l2=jnp.where(success, jnp.sqrt(best.squares), jnp.inf),
    )


carlini_wagner_l2 = images_of(
    carlini_wagner_l2_search,
    "Adversarial images; the clean image where the search failed.",
)
