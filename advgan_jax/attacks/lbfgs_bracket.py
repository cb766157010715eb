"""The search over c of Szegedy's attack: its state, its bracket, and its result.

The largest c that succeeds is looked for, for each image by itself: tenfold steps until
one c has succeeded and one failed, then bisection on `log c`.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax.attacks import criteria
from advgan_jax.attacks.lbfgs_solvers import Problem, Settings, nearest_classes
from advgan_jax.types import Array, LogitsFn

_FACTOR = 10.0
# Further out c would overflow, or vanish beside the loss.
_RANGE = (1e-18, 1e18)


class LBFGSResult(NamedTuple):
    """What the search found for each image.

    Attributes:
      images: adversarial images; the clean ones where the search failed.
      success: bool `[B]`, as the model judges `images`.
      c: the weight of the distance at which each was found, `[B]`; infinite where the
        clean image succeeds by itself, 0 where the search failed.
      l2: the norm of each perturbation, `[B]`; infinite where the search failed.
      rms_distortion: `l2 / sqrt(H W C)`, the paper's measure.
      evaluations: of the model and its gradient by the solver, int32 `[B]`.
    """

    images: Array
    success: Array
    c: Array
    l2: Array
    rms_distortion: Array
    evaluations: Array


class Search(NamedTuple):
    """A batch of searches on their way."""

    best: Array
    squares: Array  # of the norm of the best; infinite before the first success
    best_c: Array
    c: Array
    succeeded: Array  # the largest c that has; 0 before the first
    failed: Array  # the least c that has; infinite before the first
    evaluations: Array


@partial(jax.jit, static_argnames="settings", inline=True)
def begin(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    initial_distance_weight: Array,
    *,
    settings: Settings,
) -> tuple[Problem, Search]:
    """The state before the first c; images that are adversarial already sit out."""
    done = criteria.succeeded(logits_fn(images), labels, targeted=settings.targeted)
    rivals = labels
    if not settings.targeted:
        rivals = nearest_classes(logits_fn, images, labels, settings.bounds)
    zeros = jnp.where(done, 0, jnp.zeros_like(initial_distance_weight))
    search = Search(
        best=images,
        squares=jnp.where(done, 0, jnp.inf).astype(images.dtype),
        best_c=jnp.where(done, jnp.inf, zeros),
        c=zeros + initial_distance_weight,
        succeeded=zeros,
        failed=zeros + jnp.inf,
        evaluations=zeros.astype(jnp.int32),
    )
    return Problem(images, labels, rivals, ~done), search


@partial(jax.jit, static_argnames="settings", inline=True)
def adversarial(
    logits_fn: LogitsFn, problem: Problem, x: Array, *, settings: Settings
) -> Array:
    """Whether each `x` is adversarial beyond rounding, bool `[B]`."""
    return criteria.succeeded_clearly(
        logits_fn(x), problem.labels, targeted=settings.targeted
    )


@partial(jax.jit, inline=True)
def judge(
    search: Search, images: Array, x: Array, success: Array, where: Array
) -> Search:
    """Keeps the shortest adversarial image and moves c towards its boundary.

    Args:
      search: the searches so far.
      images: the clean images, `[B, H, W, C]`.
      x: where the minimisations have ended, like `images`.
      success: whether `x` is adversarial, bool `[B]`.
      where: whose minimisation has ended, bool `[B]`; others stay as they are.

    Returns:
      The searches with their next c.
    """
    c = search.c
    good, bad = where & success, where & ~success
    squares = jnp.sum((x - images) ** 2, axis=(1, 2, 3))
    better = good & (squares < search.squares)
    succeeded = jnp.where(good, jnp.maximum(search.succeeded, c), search.succeeded)
    failed = jnp.where(bad, jnp.minimum(search.failed, c), search.failed)
    return search._replace(
        best=jnp.where(better[:, None, None, None], x, search.best),
        squares=jnp.where(better, squares, search.squares),
        best_c=jnp.where(better, c, search.best_c),
        c=jnp.where(where, next_c(c, succeeded, failed), c),
        succeeded=succeeded,
        failed=failed,
    )


def next_c(c: Array, succeeded: Array, failed: Array) -> Array:
    """The c to try after `c`, given the largest that succeeded and the least failed."""
    bracketed = (succeeded > 0) & jnp.isfinite(failed)
    middle = jnp.sqrt(succeeded) * jnp.sqrt(jnp.where(bracketed, failed, 1))
    outward = jnp.where(succeeded > 0, c * _FACTOR, c / _FACTOR)
    return jnp.where(bracketed, middle, jnp.clip(outward, *_RANGE))


@partial(jax.jit, static_argnames="settings", inline=True)
def end(
    logits_fn: LogitsFn, problem: Problem, search: Search, *, settings: Settings
) -> LBFGSResult:
    """What was found, judged once more on the very images that are returned."""
    verdict = criteria.succeeded(
        logits_fn(search.best), problem.labels, targeted=settings.targeted
    )
    success = verdict & jnp.isfinite(search.squares)
    l2 = jnp.where(success, jnp.sqrt(search.squares), jnp.inf)
    images = problem.images
    return LBFGSResult(
        images=jnp.where(success[:, None, None, None], search.best, images),
        success=success,
        c=jnp.where(success, search.best_c, 0),
        l2=l2,
        rms_distortion=l2 / math.sqrt(math.prod(images.shape[1:])),
        evaluations=search.evaluations,
    )
