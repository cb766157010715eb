"""DeepFool: steps across the nearest decision boundary of the linearised model.

Deviations: every step stays in the box (a pixel at an edge does not take part in a step
that would push it out). The attack moves away from `labels`, not from the prediction. A
targeted form crosses the boundary between the wanted class and the best other one. An
iterate, as well as the clean image, succeeds only if its margin exceeds the rounding of
the logits.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import per_image, succeeded, succeeded_clearly
from advgan_jax.attacks._norms import get_norm
from advgan_jax.projections import norm_l2
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

# Classes of the largest logits among which `nearest_classes` searches.
_NUM_CANDIDATES = 10


class _State(NamedTuple):
    """One search per image."""

    step: Array
    perturbation: Array  # before the overshoot
    x: Array
    logits: Array
    active: Array


@attack(static=("num_steps", "norm", "num_candidates"))
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
      Adversarial images; the clean image where the search failed.

    References:
      Moosavi-Dezfooli et al., 2016 (https://arxiv.org/abs/1511.04599), Alg. 2 and
      Sec. 3.3.
    """
    del key
    ball = get_norm(norm, ("l2", "linf"))
    dual = _DUALS[norm]

    def _step(state: _State) -> _State:
        classes = _candidates(state.logits, labels, num_candidates, targeted)
        gaps, gradients = _linearise(logits_fn, state.x, labels, classes, targeted)
        gradients = _inward(gradients, state.x, bounds)
        distance, gradient = _nearest(gaps, gradients, labels != classes.T, dual)
        movable = per_image(state.active & jnp.isfinite(distance))
        distance = jnp.where(movable, per_image(distance), 0)
        move = distance * ball.steepest(gradient, state.x, bounds)
        perturbation = state.perturbation + move
        x = jnp.clip(images + (1 + overshoot) * perturbation, *bounds)
        x = jnp.where(movable, x, state.x)
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
    return jnp.where(per_image(verdict), end.x, images)


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


def _linearise(
    logits_fn: LogitsFn, x: Array, labels: Array, classes: Array, targeted: bool
) -> tuple[Array, Array]:
    """Return gaps `[N, B]`, positive after success, and gradients `[N, B, H, W, C]`."""
    logits, pull_back = jax.vjp(logits_fn, x)
    seeds = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    seeds -= jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)[:, None]
    seeds = (-seeds if targeted else seeds).swapaxes(0, 1)
    gradients = jax.vmap(lambda seed: pull_back(seed)[0])(seeds)
    return jnp.sum(seeds * logits, axis=-1), gradients


def _nearest(
    gaps: Array, gradients: Array, usable: Array, dual: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Return the distance to the nearest boundary, or infinity, and its gradient."""
    slopes = jax.vmap(dual)(gradients)
    distances = jnp.abs(gaps) / jnp.where(slopes > 0, slopes, 1)
    distances = jnp.where(usable & (slopes > 0), distances, jnp.inf)
    nearest, lane = jnp.argmin(distances, axis=0), jnp.arange(gaps.shape[1])
    return distances[nearest, lane], gradients[nearest, lane]


_DUALS: dict[str, Callable[[Array], Array]] = {
    "l2": lambda gradient: jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3))),
    "linf": lambda gradient: jnp.sum(jnp.abs(gradient), axis=(1, 2, 3)),
}


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
        slope = norm_l2(_inward(pull_back(seeds)[0], images, bounds))[:, 0, 0, 0]
        return -jnp.sum(seeds * logits, axis=-1) / jnp.maximum(slope, 1e-20)

    nearest = jnp.argmin(lax.map(_distance, candidates), axis=0)
    return jnp.take_along_axis(candidates, nearest[None], axis=0)[0]
