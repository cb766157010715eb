r"""Szegedy's attack: the least perturbation, by L-BFGS in the box and a search over c.

The paper minimises `c |r| + loss(x + r, l)` within the box and searches for the
"minimum c" whose solution reaches the class. Deviations:

- The distance is `||r||_2^2`, which has a gradient at `r = 0`, so that L-BFGS applies.
  The paper also reports the distortion in the L2 norm.
- As c weighs the *distance*, the shortest `r` belongs to the *largest* c that still
  succeeds. (The minimum would be right if c weighed the loss.)
- The paper's attack is targeted. Untargeted, each image moves towards the class whose
  boundary is nearest by the linearised model, among the ten classes of the largest
  logits; any other class counts as success. On the 8x8 digits the distortion is within
  one percent of the best of all nine targets.
- An iterate succeeds only if its margin exceeds the rounding of the logits. For the
  clean image, a wrong prediction is enough; the other searches require the margin.
- Where the clean image has no usable gradient, the search starts at a point beside it.

Each image has its own c, which changes tenfold until one value succeeds and one fails;
then the bracket is halved on a logarithmic scale. Each minimisation starts where the
last one ended, which saves a third of the evaluations. The attack returns the shortest
adversarial image of the whole search. As neural networks are not convex, it need not be
that of the largest c. At the end a bisection shortens it towards the clean image: where
no c has its optimum near the boundary, the searches stop far behind it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import optimize
from jax.tree_util import Partial

from advgan_jax import checks
from advgan_jax.attacks import _lbfgs
from advgan_jax.attacks._api import attack, images_of
from advgan_jax.attacks._descent import (
    away,
    gradient_nearby,
    make_gradient_fn,
    succeeded,
    succeeded_clearly,
)
from advgan_jax.attacks._lbfgs import Problem, Search, Settings
from advgan_jax.attacks._shortest import Shortest, finish
from advgan_jax.attacks.deepfool import nearest_classes
from advgan_jax.cpu import loops
from advgan_jax.projections import norm_l2
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar

# Relative decrease of the objective that ends a minimisation by `jax.scipy.optimize`.
_VALUE_TOLERANCE = 1e-5
# Weight of the squared distance from the box, relative to c, where there is no box.
_PENALTY = 10.0


class LBFGSResult(NamedTuple):
    """The result of the search for each image.

    Attributes:
      images: adversarial images; the clean ones where the search failed.
      success: bool `[B]`, as the model judges `images`.
      distance_weight: the c at which each was found, `[B]`, of pixels mapped to [0, 1];
        infinite where the clean image succeeds by itself, NaN where the search failed.
      l2: the norm of each perturbation, in pixel units, `[B]`; infinite where the
        search failed.
      rms_distortion: `l2 / sqrt(number of pixels)`, the paper's measure.
      num_evaluations: of the model and its gradient by the solver, int32 `[B]`.
    """

    images: Array
    success: Array
    distance_weight: Array
    l2: Array
    rms_distortion: Array
    num_evaluations: Array


@partial(jax.jit, static_argnames="settings", inline=True)
def begin(
    logits_fn: LogitsFn, images: Array, labels: Array, c: Scalar, *, settings: Settings
) -> tuple[Problem, Search]:
    """Return the state before the first c; adversarial images are inactive."""
    targeted, bounds = settings.targeted, settings.bounds
    done = succeeded(logits_fn(images), labels, targeted=targeted)
    directions = away(images, bounds)
    gradient_fn = make_gradient_fn(
        logits_fn, labels, directions, loss="margin", targeted=targeted
    )
    origin, _ = gradient_nearby(gradient_fn, images, directions, bounds)
    rivals = labels
    if not targeted:
        rivals = nearest_classes(logits_fn, origin, labels, bounds)
    zeros = jnp.where(done, 0, jnp.zeros_like(c))
    search = Search(
        best=images,
        squares=jnp.where(done, 0, jnp.inf).astype(images.dtype),
        best_c=jnp.where(done, jnp.inf, zeros),
        c=zeros + c,
        succeeded=zeros,
        failed=zeros + jnp.inf,
        num_evaluations=zeros.astype(jnp.int32),
    )
    problem = Problem(images, labels, rivals, ~done, zeros, origin)
    _, gradient, _ = _lbfgs.objective_and_gradient(
        logits_fn, problem, origin, search.c, settings
    )
    return problem._replace(tolerance=_lbfgs.gradient_tolerance(gradient)), search


@partial(jax.jit, static_argnames="settings", inline=True)
def end(
    logits_fn: LogitsFn, problem: Problem, search: Search, *, settings: Settings
) -> LBFGSResult:
    """Return the results, shortened; the model judges the images once more."""
    targeted, clean = settings.targeted, problem.images
    found = Shortest(search.best, search.squares)
    images = finish(logits_fn, clean, problem.labels, found, targeted=targeted)
    verdict = succeeded(logits_fn(images), problem.labels, targeted=targeted)
    success = verdict & jnp.isfinite(search.squares)
    l2 = jnp.where(success, jnp.ravel(norm_l2(images - clean)), jnp.inf)
    return LBFGSResult(
        images=images,
        success=success,
        distance_weight=jnp.where(success, search.best_c, jnp.nan),
        l2=l2,
        rms_distortion=l2 / math.sqrt(math.prod(images.shape[1:])),
        num_evaluations=search.num_evaluations,
    )


def solve_jax(
    logits_fn: LogitsFn, problem: Problem, start: Array, c: Array, settings: Settings
) -> tuple[Array, Array]:
    """Minimise by `jax.scipy.optimize`, image by image, with the c of each `[B]`.

    That solver knows no bounds: its objective has a penalty outside the box, and its
    result is clipped. Its report of success is ignored, as its line search often stops
    in float32 at good points. Return the minima and the number of evaluations, `[B]`.
    """

    def _solve(task: tuple[Problem, Array, Array]) -> tuple[Array, Array]:
        problem, start, c = jax.tree.map(lambda a: a[None], task)

        def _penalised(flat: Array) -> Array:
            x = flat.reshape(start.shape)
            value, _ = _lbfgs.objective(logits_fn, problem, x, c, settings)
            outside = jnp.sum((x - jnp.clip(x, *settings.bounds)) ** 2)
            return value[0] + _PENALTY * jnp.maximum(c[0], 1) * outside

        result = optimize.minimize(
            _penalised,
            start.ravel(),
            method="l-bfgs-experimental-do-not-rely-on-this",
            options={
                "maxiter": settings.num_steps,
                "maxcor": settings.memory,
                "ftol": _VALUE_TOLERANCE,
                "gtol": problem.tolerance[0],
            },
        )
        found = jnp.clip(result.x.reshape(start.shape), *settings.bounds)[0]
        return jnp.where(jnp.isfinite(found), found, start[0]), jnp.asarray(result.nfev)

    # Under `vmap` every image would repeat the line searches of the slowest.
    return lax.map(_solve, (problem, start, c))


def _search_by_jax(
    logits_fn: LogitsFn, problem: Problem, search: Search, settings: Settings
) -> Search:
    """Run all searches by `solve_jax`, one c at a time."""
    everywhere = jnp.ones(len(problem.images), bool)

    def _step(carry: tuple[Search, Array]) -> tuple[Search, Array]:
        search, x = carry
        x, count = solve_jax(logits_fn, problem, x, search.c, settings)
        success = succeeded_clearly(
            logits_fn(x), problem.labels, targeted=settings.targeted
        )
        search = _lbfgs.judge(search, problem.images, x, success, everywhere)
        count = search.num_evaluations + count
        return search._replace(num_evaluations=count), x

    return loops.repeat(_step, (search, problem.start), settings.num_search_steps)[0]


SOLVERS: dict[str, Callable[..., Search]] = {
    "jax": _search_by_jax,
    "projected": _lbfgs.search_by_lanes,
}


@attack(static=("solver", "num_search_steps", "num_steps", "memory"), unit=True)
def lbfgs_search(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    solver: str = "projected",
    num_search_steps: int = 12,
    num_steps: int = 60,
    memory: int = 10,
    initial_distance_weight: Scalar = 1.0,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> LBFGSResult:
    r"""Szegedy's box-constrained L-BFGS attack.

    .. math:: \min_r \; c\,\lVert r\rVert_2^2 + \ell(Z(x + r), y), \qquad
        x + r \in [l, h]^n

    The loss is the cross-entropy `-log p_y` of the wanted class or, untargeted, that
    between the true class and the nearest by the linearised model. For each image a
    bisection on `log c` searches for the largest c that succeeds, and keeps the
    shortest adversarial image. (The paper says "minimum c"; see the module.)

    Args:
      solver: `projected`: the L-BFGS of `optimizers`, many images side by side.
        `jax`: the L-BFGS of `jax.scipy.optimize`, image by image, with a penalty
        instead of the box. `jax` stops when the objective falls by less than 1e-5 of
        itself, `projected` at 1e-5 to 1e-4.
      num_search_steps: number of values of c: tenfold until one succeeds and one fails,
        then bisection.
      num_steps: maximum number of iterations of L-BFGS for each c.
      memory: number of curvature pairs that L-BFGS keeps.
      initial_distance_weight: the first c, in units of loss over squared pixel, of
        pixels mapped to [0, 1].

    Returns:
      The images, and the norm and the c of each.

    Raises:
      ValueError: for an unknown solver, or a count below 1.

    References:
      Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.1.
    """
    del key
    if solver not in SOLVERS:
        raise checks.unknown_name("solver", solver, SOLVERS)
    checks.check_at_least("num_steps", num_steps, 1)
    checks.check_at_least("memory", memory, 1)
    settings = Settings(num_search_steps, num_steps, memory, targeted, bounds)
    model = Partial(logits_fn)
    problem, search = begin(
        model, images, labels, initial_distance_weight, settings=settings
    )
    search = SOLVERS[solver](model, problem, search, settings)
    return end(model, problem, search, settings=settings)


lbfgs = images_of(
    lbfgs_search,
    "Adversarial images; the clean image where the search failed, and where it is\n"
    "  adversarial already.",
)
