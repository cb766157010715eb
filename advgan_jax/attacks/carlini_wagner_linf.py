"""Carlini & Wagner's L-infinity attack: a bound tau that shrinks after each success.

Deviations: each image has its own sequence of tau and c. A run that stalls (0.01
percent in a tenth of the steps) ends early. After a failure the next run starts at the
best image so far. The tanh is that of `carlini_wagner`, so pixels at the edges of the
box can move. An iterate, as well as the clean image, succeeds only if its margin
exceeds the rounding of the logits. Tau shrinks only after an iterate that succeeds
within tau; the released code tests the loss. From a point without a usable gradient a
step goes in a random direction.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.attacks._adam import Adam, begin, take_step
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import (
    away,
    select,
    succeeded,
    succeeded_clearly,
)
from advgan_jax.attacks._norms import per_image
from advgan_jax.attacks._pool import run_in_lanes
from advgan_jax.attacks.carlini_wagner import begin_lanes, decode, encode
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_CHECKS_PER_RUN = 10
_STALLED = 0.9999


class _Best(NamedTuple):
    """The best image so far, and the largest change of its pixels."""

    images: Array
    linf: Array  # infinite before the first success


class _State(NamedTuple):
    """The lanes: one image each; a run is a minimisation at one tau and one c."""

    images: Array
    labels: Array
    directions: Array  # off points without a gradient
    adam: Adam
    least: Array  # objective of this run
    checked: Array  # `least` at the last check
    tau: Array
    c: Array
    best: _Best


@attack(static=("num_steps",), unit=True)
def carlini_wagner_linf(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_steps: int = 1000,
    learning_rate: Scalar = 5e-3,
    initial_loss_weight: Scalar = 1e-5,
    max_const: Scalar = 20.0,
    tau_factor: Scalar = 0.9,
    min_tau: Scalar = 1 / 256,
    confidence: Scalar = 0.0,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Carlini & Wagner's L-infinity attack.

    .. math:: \min_w \sum_i (|x'_i(w) - x_i| - \tau)_+ + c\,
      \max(\pm(Z_y - \max_{j \ne y} Z_j), -\kappa)

    Adam minimises it. After success within tau an image continues with
    `tau <- tau_factor * max |x' - x|`, after failure with `2 c`.

    With few steps the search often finds nothing and returns the clean image;
    `Evaluation.unchanged` marks these images.

    Args:
      num_steps: maximum number of Adam steps for each pair of tau and c.
      learning_rate: of Adam, in `w`.
      initial_loss_weight: the first c, of pixels mapped to [0, 1], like the next three.
      max_const: the search of an image fails when its c exceeds this.
      tau_factor: below 1.
      min_tau: the search of an image ends when its tau falls below.

    Returns:
      Adversarial images; the clean image where the search failed.

    References:
      Carlini & Wagner, 2017 (https://arxiv.org/abs/1608.04644), Sec. VI-C.
    """
    del key
    options = {"targeted": targeted, "confidence": confidence}

    def _evaluate(w: Array, state: _State) -> tuple[Array, Any]:
        x = decode(w, bounds)
        logits = logits_fn(x)
        size, tau = jnp.abs(x - state.images), per_image(state.tau, x)
        excess = jnp.maximum(size - tau, 0).sum(axis=pixel_axes(x))
        margin = losses.margin(logits, state.labels, **options)
        objective = excess + state.c * margin
        success = succeeded_clearly(logits, state.labels, **options)
        new = _Best(x, jnp.max(size, axis=pixel_axes(x), initial=0))
        return jnp.sum(objective), (objective, new, success)

    def _advance(state: _State) -> tuple[_State, Array]:
        gradient, (objective, new, success) = jax.grad(_evaluate, has_aux=True)(
            state.adam.w, state
        )
        best = select(success & (new.linf < state.best.linf), new, state.best)
        state, stalled = _detect_stalls(state._replace(best=best), objective, num_steps)
        within = success & (new.linf <= state.tau)
        over = ~within & (stalled | (state.adam.step >= num_steps))
        step_of = state.adam, gradient, success, learning_rate, state.directions
        state = state._replace(adam=take_step(*step_of))
        state = _next_run(state, within, over, tau_factor, bounds)
        return state, (state.tau < min_tau) | (state.c > max_const)

    done = succeeded_clearly(logits_fn(images), labels, **options)
    start = _Best(images, jnp.where(done, 0, jnp.inf).astype(images.dtype))
    everything = images, labels, away(images, bounds), start
    best = run_in_lanes(
        *(partial(_begin, everything, initial_loss_weight, bounds), _advance),
        *(lambda state: state.best, start, ~done),
    )
    verdict = succeeded(logits_fn(best.images), labels, targeted=targeted)
    return select(verdict, best.images, images)


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
        *(*rows, nothing + jnp.inf, nothing + jnp.inf),
        tau=nothing + (bounds[1] - bounds[0]),
        c=nothing + initial,
        best=best,
    )


def _detect_stalls(
    state: _State, objective: Array, num_steps: int
) -> tuple[_State, Array]:
    """Keep the least objective; return which runs have stalled."""
    due = state.adam.step % max(num_steps // _CHECKS_PER_RUN, 1) == 0
    least = jnp.minimum(state.least, objective)
    stalled = due & (least > _STALLED * state.checked)
    checked = jnp.where(due, least, state.checked)
    return state._replace(least=least, checked=checked), stalled


def _next_run(
    state: _State, within: Array, over: Array, tau_factor: Scalar, bounds: Bounds
) -> _State:
    """Begin new runs: a smaller tau after success, a larger c after failure."""
    new = within | over
    w = encode(state.best.images, bounds)
    again = begin(select(over, w, state.adam.w), 0 * state.adam.step)
    return state._replace(
        adam=select(new, again, state.adam),
        least=jnp.where(new, jnp.inf, state.least),
        checked=jnp.where(new, jnp.inf, state.checked),
        tau=jnp.where(within, tau_factor * state.best.linf, state.tau),
        c=jnp.where(over, 2 * state.c, state.c),
    )
