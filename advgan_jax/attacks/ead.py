"""EAD, Chen et al.'s attack by the L1 and the L2 norm: perturbations of few pixels.

Deviations: a step shrinks pixels by its size times beta, so that FISTA minimises the
stated objective. The paper shrinks them by beta whatever the step: its beta of 1e-3 is
here 0.1, as its first step is 0.01. Each image has its own c. The momentum point is
clipped to the box, where models are defined. The gradient weighs the margin without its
floor, so it is never zero behind the boundary. At the end a bisection shortens the
perturbation. An iterate, as well as the clean image, succeeds only if its margin
exceeds the rounding of the logits. From a point without a usable gradient a step goes
in a random direction.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import (
    away,
    make_loss_fn,
    select,
    step_off,
    succeeded_clearly,
    usable,
)
from advgan_jax.attacks._norms import LENGTHS
from advgan_jax.attacks._shortest import Shortest, finish, keep_shorter
from advgan_jax.attacks.carlini_wagner import WeightSearch, next_weight
from advgan_jax.checks import unknown_name
from advgan_jax.cpu import loops
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

DECISIONS = ("elastic_net", "l1")


class _Walk(NamedTuple):
    """The state of one minimisation."""

    step: Array
    x: Array
    momentum: Array  # the point whose gradient the next step follows
    best: Shortest
    found: Array  # whether an iterate of this run succeeded


def _shrink(change: Array, most: Array) -> Array:
    """Move each pixel by at most `most` towards 0."""
    return jnp.sign(change) * jnp.maximum(jnp.abs(change) - most, 0)


@attack(static=("num_search_steps", "num_steps", "decision"), unit=True)
def ead(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_search_steps: int = 9,
    num_steps: int = 100,
    learning_rate: Scalar = 1e-2,
    initial_loss_weight: Scalar = 1e-3,
    l1_weight: Scalar = 0.1,
    decision: str = "l1",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""EAD: a sum of the L1 and the squared L2 norm of a perturbation, minimised.

    .. math:: \min_{x'} c\,\max(\pm(Z_y - \max_{i \ne y} Z_i), 0) + \lVert r\rVert_2^2
      + \beta \lVert r\rVert_1, \qquad r = x' - x,\ x' \in [l, h]^n

    FISTA minimises it: a gradient step of size alpha on the first two terms, then each
    pixel moves by at most alpha times beta towards the clean one. For each image a
    bisection searches for the smallest c that succeeds.

    Args:
      num_search_steps: number of values of c: tenfold until one succeeds, then
        bisection.
      num_steps: number of gradients for each c. (The released code takes 1,000.)
      learning_rate: of the first step; it falls with the root of the steps left.
      initial_loss_weight: the first c, of pixels mapped to [0, 1].
      l1_weight: beta, of pixels mapped to [0, 1]; more makes perturbations of fewer
        pixels.
      decision: which of the successful iterates is returned: that of the least sum
        (`elastic_net`), or of the least L1 norm (`l1`).

    Returns:
      Adversarial images; the clean image where the search failed.

    Raises:
      ValueError: for an unknown decision.

    References:
      Chen et al., 2018 (https://arxiv.org/abs/1709.04114), Alg. 1.
    """
    del key
    if decision not in DECISIONS:
        raise unknown_name("decision", decision, DECISIONS)
    loss_fn = make_loss_fn("margin", targeted=targeted)
    directions = away(images, bounds)

    def _length(x: Array) -> Array:
        l1 = LENGTHS["l1"](x - images)
        squares = jnp.sum((x - images) ** 2, axis=pixel_axes(x))
        return l1 if decision == "l1" else squares + l1_weight * l1

    def _smooth(x: Array, c: Array) -> tuple[Array, Array]:
        logits = logits_fn(x)
        total = jnp.sum(c * loss_fn(logits, labels)) + jnp.sum((x - images) ** 2)
        return total, succeeded_clearly(logits, labels, targeted=targeted)

    def _step(walk: _Walk, c: Array) -> _Walk:
        point = walk.momentum
        gradient, success = jax.grad(_smooth, has_aux=True)(point, c)
        gradient, lost = usable(gradient, success)
        share = 1 - walk.step.astype(point.dtype) / num_steps
        rate = learning_rate * jnp.sqrt(share)
        change = _shrink(point - rate * gradient - images, rate * l1_weight)
        x = jnp.clip(images + change, *bounds)
        x = select(lost, step_off(point, directions, bounds), x)
        success = succeeded_clearly(logits_fn(x), labels, targeted=targeted)
        best = keep_shorter(walk.best, x, success, _length(x))
        ahead = x + walk.step / (walk.step + 3) * (x - walk.x)
        found = walk.found | success
        return _Walk(walk.step + 1, x, jnp.clip(ahead, *bounds), best, found)

    def _search(state: WeightSearch) -> WeightSearch:
        walk = _Walk(jnp.asarray(0), images, images, state.best, state.c < 0)
        walk = loops.repeat(lambda w: _step(w, state.c), walk, num_steps)
        return next_weight(state._replace(best=walk.best), walk.found)

    done = succeeded_clearly(logits_fn(images), labels, targeted=targeted)
    nothing = jnp.where(done, 0, jnp.inf).astype(images.dtype)
    c = jnp.where(done, 0, jnp.zeros_like(nothing) + initial_loss_weight)
    start = WeightSearch(Shortest(images, nothing), c, 0 * c, 0 * c + jnp.inf)
    best = loops.repeat(_search, start, num_search_steps).best
    return finish(logits_fn, images, labels, best, targeted=targeted)
