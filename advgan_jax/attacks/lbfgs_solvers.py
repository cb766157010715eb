r"""Szegedy's objective at a given c, and a reference solver for it.

.. math:: \min_{x'} \; c\,\lVert x' - x\rVert_2^2 + \ell(Z(x'), y),
    \qquad x' \in [l, h]^n

The default solver is interwoven with the search over c, see `lbfgs_pool`; this one goes
image by image and can be tested against it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import optimize

from advgan_jax import losses
from advgan_jax.projections import norm_l2
from advgan_jax.types import Array, Bounds, LogitsFn

# Relative decrease of the objective that ends a minimisation of the reference.
_VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-5
# Weight of the squared distance from the box, relative to c, where there is no box.
_PENALTY = 10.0
# Classes of the largest logits among which the nearest is looked for.
_NUM_CANDIDATES = 10


class Problem(NamedTuple):
    """What all values of c have in common.

    Attributes:
      images: the clean images, `[B, H, W, C]`.
      labels: class ids, `[B]`.
      rivals: what to move to from `labels`, class ids, `[B]`; not used when targeted.
      active: whether an image is to be attacked, bool `[B]`; others stay as they are.
    """

    images: Array
    labels: Array
    rivals: Array
    active: Array


class Settings(NamedTuple):
    """Static settings of a minimisation; all solvers read them alike."""

    num_steps: int
    memory: int
    targeted: bool
    bounds: Bounds


def attack_loss(
    logits: Array, labels: Array, rivals: Array, *, targeted: bool
) -> Array:
    r"""Cross-entropy of what is wanted; at least 0, and convex in the logits.

    .. math:: \ell = -\log p_y \quad\text{or}\quad
        \ell = -\log \frac{p_k}{p_k + p_y} = \log(1 + e^{Z_y - Z_k})

    towards a wanted class `y`, or from the true class `y` to one rival `k`. (`log p_y`,
    which untargeted attacks often minimise, goes on falling behind the boundary; on
    digits it made distortions two to three times as long.)

    Args:
      logits: `Z`, shape `[B, K]`.
      labels: class ids, shape `[B]`; wanted ones when `targeted`, else true ones.
      rivals: class ids, shape `[B]`.
      targeted: which of the two.

    Returns:
      Per-image loss, shape `[B]`.
    """
    if targeted:
        return losses.cross_entropy(logits, labels, targeted=True)
    pairs = jnp.stack([labels, rivals], axis=-1)
    at_label, at_rival = jnp.take_along_axis(logits, pairs, axis=-1).T
    return jax.nn.softplus(at_label - at_rival)


def nearest_classes(
    logits_fn: LogitsFn, images: Array, labels: Array, bounds: Bounds
) -> Array:
    r"""The class whose boundary the linearised model has nearest, as in DeepFool.

    .. math:: \arg\min_{k \ne y}
        \frac{Z_y - Z_k}{\lVert \nabla Z_k - \nabla Z_y\rVert_2}

    among the ten classes of the largest logits. Pixels at an edge of the box count only
    if they would move inwards.

    Args:
      logits_fn: the attacked model.
      images: `[B, H, W, C]` within `bounds`.
      labels: true classes, `[B]`.
      bounds: the least and the greatest pixel value.

    Returns:
      Class ids, int32 `[B]`.
    """
    logits, pull_back = jax.vjp(lambda x: logits_fn(x).astype(x.dtype), images)
    num_classes = logits.shape[-1]
    own = jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
    others = jnp.where(own > 0, -jnp.inf, logits)
    count = min(_NUM_CANDIDATES, num_classes - 1)
    candidates = lax.top_k(others, count)[1].T

    def distance(classes: Array) -> Array:
        seeds = jax.nn.one_hot(classes, num_classes, dtype=logits.dtype) - own
        direction = pull_back(seeds)[0]
        outward = ((images <= bounds[0]) & (direction < 0)) | (
            (images >= bounds[1]) & (direction > 0)
        )
        slope = norm_l2(jnp.where(outward, 0, direction))[:, 0, 0, 0]
        return -jnp.sum(seeds * logits, axis=-1) / jnp.maximum(slope, 1e-20)

    nearest = jnp.argmin(lax.map(distance, candidates), axis=0)
    return jnp.take_along_axis(candidates, nearest[None], axis=0)[0]


def objective(
    logits_fn: LogitsFn, problem: Problem, x: Array, c: Array, *, targeted: bool
) -> tuple[Array, Array]:
    """What is minimised, `[B]`, and the logits `[B, K]`.

    It is constant for images that are not to be attacked.
    """
    squares = jnp.sum((x - problem.images) ** 2, axis=(1, 2, 3))
    logits = logits_fn(x).astype(x.dtype)
    loss = attack_loss(logits, problem.labels, problem.rivals, targeted=targeted)
    return jnp.where(problem.active, c * squares + loss, 0), logits


def evaluate(
    logits_fn: LogitsFn, problem: Problem, x: Array, c: Array, *, targeted: bool
) -> tuple[Array, Array, Array]:
    """The objective of each image, `[B]`, its gradient, like `x`, and the logits."""

    def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
        values, logits = objective(logits_fn, problem, x, c, targeted=targeted)
        return jnp.sum(values), (values, logits)

    (_, (values, logits)), gradients = jax.value_and_grad(total, has_aux=True)(x)
    return values, gradients, logits


def solve_jax(
    logits_fn: LogitsFn, problem: Problem, start: Array, c: Array, settings: Settings
) -> tuple[Array, Array]:
    """Minimises by `jax.scipy.optimize`, image by image.

    That solver knows no bounds: outside of the box its objective gets a penalty, and
    what it finds is clipped. Its own report of success is ignored; its line search
    often gives up in float32 at points that are good.

    Args:
      logits_fn: the attacked model.
      problem: images and labels.
      start: where each minimisation sets out, like the images.
      c: the weight of the distance, `[B]`.
      settings: of the solver.

    Returns:
      What was found, and the evaluations of each image, int32 `[B]`.
    """

    def solve(task: tuple[Problem, Array, Array]) -> tuple[Array, Array]:
        problem, start, c = jax.tree.map(lambda a: a[None], task)

        def penalised(flat: Array) -> Array:
            x = flat.reshape(start.shape)
            value, _ = objective(logits_fn, problem, x, c, targeted=settings.targeted)
            outside = jnp.sum((x - jnp.clip(x, *settings.bounds)) ** 2)
            return value[0] + _PENALTY * jnp.maximum(c[0], 1) * outside

        result = optimize.minimize(
            penalised,
            start.ravel(),
            method="l-bfgs-experimental-do-not-rely-on-this",
            options={
                "maxiter": settings.num_steps,
                "maxcor": settings.memory,
                "ftol": _VALUE_TOLERANCE,
                "gtol": GRADIENT_TOLERANCE,
            },
        )
        found = jnp.clip(result.x.reshape(start.shape), *settings.bounds)[0]
        return jnp.where(jnp.isfinite(found), found, start[0]), result.nfev

    # Under `vmap` every image would repeat the line searches of the slowest.
    return lax.map(solve, (problem, start, c))
