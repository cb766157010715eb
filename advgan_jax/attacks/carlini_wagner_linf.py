"""Carlini & Wagner's L-infinity attack: a bound tau that shrinks after each success.

Deviations: each image has its own sequence of tau and c. A run that stalls (0.01
percent in a tenth of the steps) ends early. After a failure the next run starts at the
best image so far. The tanh is that of `carlini_wagner`, so pixels at the edges of the
box can move. An iterate, as well as the clean image, succeeds only if its margin
exceeds the rounding of the logits. Tau shrinks only after an iterate that succeeds
within tau; the released code tests the loss. From a point without a usable gradient a
step goes in a random direction.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax import losses
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import (
    away,
    select,
    succeeded,
    succeeded_clearly,
    usable,
)
from advgan_jax.attacks._norms import per_image
from advgan_jax.attacks.carlini_wagner import decode, encode
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

_CHECKS_PER_RUN = 10
_STALLED = 0.9999
_DECAYS = (0.9, 0.999)  # of Adam
_TINY = 1e-8


class _State(NamedTuple):
    """One search per image; all but `w`, the moments and `best` have shape `[B]`."""

    w: Array
    mean: Array
    square: Array
    step: Array
    least: Array  # objective of this run
    checked: Array  # `least` at the last check
    tau: Array
    c: Array
    best: Array
    linf: Array
    active: Array


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

    def _evaluate(w, c, tau):
        x = decode(w, bounds)
        logits = logits_fn(x)
        size = jnp.abs(x - images)
        excess = jnp.maximum(size - per_image(tau, x), 0).sum(axis=pixel_axes(x))
        objective = excess + c * losses.margin(logits, labels, **options)
        success = succeeded_clearly(logits, labels, **options)
        linf = jnp.max(size, axis=pixel_axes(x), initial=0)
        return jnp.sum(objective), (objective, x, linf, success)

    def _step(state: _State) -> _State:
        gradient, (objective, x, linf, success) = jax.grad(_evaluate, has_aux=True)(
            state.w, state.c, state.tau
        )
        improved = state.active & success & (linf < state.linf)
        state = state._replace(
            best=select(improved, x, state.best),
            linf=jnp.where(improved, linf, state.linf),
        )
        state, stalled = _detect_stalls(state, objective, num_steps)
        within = success & (linf <= state.tau)
        over = ~within & (stalled | (state.step >= num_steps))
        gradient, lost = usable(gradient, success)
        before, state = state, _take_adam_step(state, gradient, learning_rate)
        off = before.w + learning_rate * directions
        state = state._replace(w=select(lost, off, state.w))
        state = _next_run(state, within, over, tau_factor, bounds)
        going = (state.tau >= min_tau) & (state.c <= max_const)
        return state._replace(active=state.active & going)

    directions = away(images, bounds)
    clean = succeeded_clearly(logits_fn(images), labels, **options)
    start = _initial_state(images, clean, bounds, initial_loss_weight)
    end = lax.while_loop(lambda s: jnp.any(s.active), _step, start)
    verdict = succeeded(logits_fn(end.best), labels, targeted=targeted)
    return select(verdict, end.best, images)


def _initial_state(images: Array, done: Array, bounds: Bounds, c: Scalar) -> _State:
    """Return the state before the first step."""
    w = encode(images, bounds)
    zero = jnp.where(done, 0, jnp.zeros_like(jnp.sum(images, pixel_axes(images))))
    return _State(
        w=w,
        mean=jnp.zeros_like(w),
        square=jnp.zeros_like(w),
        step=zero.astype(jnp.int32),
        least=zero + jnp.inf,
        checked=zero + jnp.inf,
        tau=zero + (bounds[1] - bounds[0]),
        c=zero + c,
        best=images,
        linf=jnp.where(done, 0, zero + jnp.inf),
        active=~done,
    )


def _detect_stalls(
    state: _State, objective: Array, num_steps: int
) -> tuple[_State, Array]:
    """Keep the least objective; return which runs have stalled."""
    due = state.step % max(num_steps // _CHECKS_PER_RUN, 1) == 0
    least = jnp.minimum(state.least, objective)
    stalled = due & (least > _STALLED * state.checked)
    checked = jnp.where(due, least, state.checked)
    return state._replace(least=least, checked=checked), stalled


def _next_run(
    state: _State, within: Array, over: Array, tau_factor: Scalar, bounds: Bounds
) -> _State:
    """Begin new runs: a smaller tau after success, a larger c after failure."""
    new = within | over
    again = encode(state.best, bounds)
    return state._replace(
        w=select(over, again, state.w),
        mean=jnp.where(per_image(new, again), 0, state.mean),
        square=jnp.where(per_image(new, again), 0, state.square),
        step=jnp.where(new, 0, state.step),
        least=jnp.where(new, jnp.inf, state.least),
        checked=jnp.where(new, jnp.inf, state.checked),
        tau=jnp.where(within, tau_factor * state.linf, state.tau),
        c=jnp.where(over, 2 * state.c, state.c),
    )


def _take_adam_step(state: _State, gradient: Array, learning_rate: Scalar) -> _State:
    """Take one Adam step, in which each image counts its own steps."""
    step = state.step + 1
    mean = _DECAYS[0] * state.mean + (1 - _DECAYS[0]) * gradient
    square = _DECAYS[1] * state.square + (1 - _DECAYS[1]) * gradient**2
    count = per_image(step.astype(mean.dtype), mean)
    unbiased = mean / (1 - _DECAYS[0] ** count)
    scale = jnp.sqrt(square / (1 - _DECAYS[1] ** count)) + _TINY
    w = state.w - learning_rate * unbiased / scale
    return state._replace(w=w, mean=mean, square=square, step=step)
