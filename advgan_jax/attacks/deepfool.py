"""DeepFool: steps across the nearest decision boundary of the linearised model.

Deviations: the box is respected at every step (a pixel at an edge takes no part in a
step that would push it out), `labels` and not the prediction are what the attack moves
away from, and there is a targeted form, which crosses the boundary between the wanted
class and the best other one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.attacks import criteria
from advgan_jax.attacks._api import attack
from advgan_jax.attacks.norms import get_norm
from advgan_jax.types import Array, Bounds, LogitsFn


class _State(NamedTuple):
    step: Array
    perturbation: Array  # before the overshoot
    x: Array
    logits: Array
    active: Array


@attack(static=("num_steps", "norm", "num_candidates"))
def deepfool(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    num_steps: int = 50,
    overshoot: float = 0.02,
    norm: str = "l2",
    num_candidates: int | None = None,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""DeepFool.

    .. math:: r_k = \frac{|f_l|}{\lVert w_l\rVert_2^2} w_l, \qquad
      l = \arg\min_{i \ne y} \frac{|f_i|}{\lVert w_i\rVert_2}, \qquad
      f_i = Z_i - Z_y, \; w_i = \nabla Z_i - \nabla Z_y

    until `x + (1 + overshoot) sum(r)` is misclassified; in L-infinity the dual norm is
    the sum of `|w|`, and the step goes along its sign.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: not used.
      num_steps: the most linearisations.
      overshoot: how much further than the boundary, as a share of the perturbation.
      norm: `l2` or `linf`.
      num_candidates: classes of the largest logits that are considered, for models with
        many classes; None: all. Their number is that of backward passes in each step.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      Adversarial images; the clean image where none was found.

    References:
      Moosavi-Dezfooli et al., 2016 (https://arxiv.org/abs/1511.04599), Alg. 2 and
      Sec. 3.3.
    """
    del key
    ball = get_norm(norm, ("l2", "linf"))
    dual = _DUALS[norm]

    def step(state: _State) -> _State:
        classes = _candidates(state.logits, labels, num_candidates, targeted)
        gaps, gradients = _linearise(logits_fn, state.x, labels, classes, targeted)
        outward = ((state.x <= bounds[0]) & (gradients < 0)) | (
            (state.x >= bounds[1]) & (gradients > 0)
        )
        gradients = jnp.where(outward, 0, gradients)
        distance, gradient = _nearest(gaps, gradients, labels != classes.T, dual)
        movable = (state.active & jnp.isfinite(distance))[:, None, None, None]
        distance = jnp.where(movable, distance[:, None, None, None], 0)
        move = distance * ball.steepest(gradient, state.x, bounds)
        perturbation = state.perturbation + move
        x = jnp.clip(images + (1 + overshoot) * perturbation, *bounds)
        x = jnp.where(movable, x, state.x)
        logits = logits_fn(x)
        done = criteria.succeeded_clearly(logits, labels, targeted=targeted)
        # What the box has left of it is where the next step begins.
        kept = jnp.clip(images + perturbation, *bounds) - images
        return _State(state.step + 1, kept, x, logits, state.active & ~done)

    logits = logits_fn(images)
    done = criteria.succeeded_clearly(logits, labels, targeted=targeted)
    start = _State(jnp.asarray(0), jnp.zeros_like(images), images, logits, ~done)
    end = lax.while_loop(
        lambda s: (s.step < num_steps) & jnp.any(s.active), step, start
    )
    verdict = criteria.succeeded(logits_fn(end.x), labels, targeted=targeted)
    return jnp.where(verdict[:, None, None, None], end.x, images)


def _candidates(
    logits: Array, labels: Array, num_candidates: int | None, targeted: bool
) -> Array:
    """Classes on the other side of the boundaries that are looked at, `[B, N]`."""
    num_others = logits.shape[-1] - 1
    hidden = jax.nn.one_hot(labels, num_others + 1, dtype=bool)
    others = jnp.where(hidden, -jnp.inf, logits)
    if targeted:
        return jnp.argmax(others, axis=-1)[:, None]
    return lax.top_k(others, min(num_candidates or num_others, num_others))[1]


def _linearise(
    logits_fn: LogitsFn, x: Array, labels: Array, classes: Array, targeted: bool
) -> tuple[Array, Array]:
    """Gaps `[N, B]`, positive after success, and gradients `[N, B, H, W, C]`."""
    logits, pull_back = jax.vjp(logits_fn, x)
    seeds = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    seeds -= jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)[:, None]
    seeds = (-seeds if targeted else seeds).swapaxes(0, 1)
    gradients = jax.vmap(lambda seed: pull_back(seed)[0])(seeds)
    return jnp.sum(seeds * logits, axis=-1), gradients


def _nearest(
    gaps: Array, gradients: Array, usable: Array, dual: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Distance to the nearest boundary, infinite without one, and its gradient."""
    slopes = jax.vmap(dual)(gradients)
    distances = jnp.abs(gaps) / jnp.where(slopes > 0, slopes, 1)
    distances = jnp.where(usable & (slopes > 0), distances, jnp.inf)
    nearest, lane = jnp.argmin(distances, axis=0), jnp.arange(gaps.shape[1])
    return distances[nearest, lane], gradients[nearest, lane]


def _dual_l2(gradient: Array) -> Array:
    return jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3)))


def _dual_linf(gradient: Array) -> Array:
    return jnp.sum(jnp.abs(gradient), axis=(1, 2, 3))


_DUALS = {"l2": _dual_l2, "linf": _dual_linf}
