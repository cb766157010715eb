r"""The search over c of Szegedy's attack (see `lbfgs`) in a pool of lanes.

Per image, a batch of any size costs about the same, at least on a CPU. So a fixed
number of lanes processes all images: a lane that finishes takes its next c or the next
image. Each round evaluates one trial point per lane.

Another c changes only the weight of the distance. At the same point and along the same
curvature pairs `(s, y)` the new objective has exactly:

.. math:: f' = f + (c' - c) \lVert r\rVert^2, \quad g' = g + 2 (c' - c) r, \quad
    y' = y + 2 (c' - c) s.

Thus no point is evaluated again, and L-BFGS keeps its curvature pairs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax import losses, optimizers
from advgan_jax.attacks._descent import select, succeeded_clearly
from advgan_jax.attacks._norms import per_image
from advgan_jax.cpu import loops
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, Bounds, LogitsFn

_FACTOR = 10.0
# Beyond this range c overflows, or the loss hides the distance.
_RANGE = (1e-18, 1e18)
# A gradient this small ends a minimisation. The second number is relative to the first
# gradient: the slope of each pixel is small where there are many, or flat logits.
_GRADIENT_TOLERANCE, _SHARE_OF_FIRST = 1e-5, 1e-3
# Relative decrease of the objective that ends a minimisation. The larger applies where
# the distance dominates: there 1e-5 doubles the evaluations and shortens no distance.
# Close to a boundary the loss hides the decrease of the distance.
_VALUE_TOLERANCES = (1e-5, 1e-4)


class Settings(NamedTuple):
    """Static settings of a search, the same for all solvers."""

    num_search_steps: int
    num_steps: int
    memory: int
    targeted: bool
    bounds: Bounds


class Problem(NamedTuple):
    """The arguments of the search that do not depend on c."""

    images: Array
    labels: Array
    rivals: Array  # untargeted: the classes to move to
    active: Array  # whether an image is attacked; the others stay as they are
    tolerance: Array  # of the largest entry of the gradient
    start: Array  # the images, moved off a point without a usable gradient


class Search(NamedTuple):
    """The state of a batch of searches."""

    best: Array
    squares: Array  # of the norm of the best; infinite before the first success
    best_c: Array
    c: Array
    succeeded: Array  # the largest c that has succeeded; 0 before the first
    failed: Array  # the smallest c that has failed; infinite before the first
    num_evaluations: Array


class _Lanes(NamedTuple):
    """The work of each lane; each field has the lanes' axis first."""

    index: Array  # of its image; the number of images where the lane is idle
    problem: Problem
    search: Search
    solver: optimizers.State
    success: Array  # whether `solver.x` is adversarial
    steps: Array  # number of values of c tried


class _Queue(NamedTuple):
    """The images to attack, and what a lane needs to start one."""

    problem: Problem
    search: Search
    loss: Array  # the objective at the start with the first c
    gradient: Array
    order: Array  # image ids, those to attack first
    length: Array  # number of images to attack


def attack_loss(
    logits: Array, labels: Array, rivals: Array, *, targeted: bool
) -> Array:
    r"""Return a cross-entropy `[B]`, convex in the logits.

    .. math:: \ell = -\log p_y \quad\text{or}\quad
        \ell = -\log \frac{p_k}{p_k + p_y} = \log(1 + e^{Z_y - Z_k})

    towards a wanted class `y`, or from the true class `y` to one rival `k`.
    """
    # `log p_y`, which untargeted attacks often minimise, keeps falling behind the
    # boundary: on digits the distortions were two to three times as large.
    if targeted:
        return losses.cross_entropy(logits, labels, targeted=True)
    pairs = jnp.stack([labels, rivals], axis=-1)
    at_label, at_rival = jnp.take_along_axis(logits, pairs, axis=-1).T
    return jax.nn.softplus(at_label - at_rival)


def objective(
    logits_fn: LogitsFn, problem: Problem, x: Array, c: Array, settings: Settings
) -> tuple[Array, Array]:
    """Return the objective `[B]`, constant for inactive images, and the logits."""
    targeted = settings.targeted
    squares = _squares(x - problem.images)
    logits = logits_fn(x).astype(x.dtype)
    loss = attack_loss(logits, problem.labels, problem.rivals, targeted=targeted)
    return jnp.where(problem.active, c * squares + loss, 0), logits


def objective_and_gradient(
    logits_fn: LogitsFn, problem: Problem, x: Array, c: Array, settings: Settings
) -> tuple[Array, Array, Array]:
    """Return the objective of each image, `[B]`, its gradient, and the logits."""

    def _total(x: Array) -> tuple[Array, tuple[Array, Array]]:
        values, logits = objective(logits_fn, problem, x, c, settings)
        return jnp.sum(values), (values, logits)

    (_, (values, logits)), gradients = jax.value_and_grad(_total, has_aux=True)(x)
    return values, gradients, logits


def gradient_tolerance(first: Array) -> Array:
    """Return the tolerance of each image, `[B]`, from its first gradient."""
    largest = jnp.max(jnp.abs(first), axis=pixel_axes(first), initial=0)
    return jnp.minimum(_GRADIENT_TOLERANCE, _SHARE_OF_FIRST * largest)


def _squares(perturbation: Array) -> Array:
    """Return the square of the L2 norm of each image, `[B]`."""
    return jnp.sum(perturbation**2, axis=pixel_axes(perturbation))


def judge(
    search: Search, images: Array, x: Array, success: Array, ended: Array
) -> Search:
    """Keep the shortest adversarial image and choose the next c where `ended` `[B]`."""
    c = search.c
    good, bad = ended & success, ended & ~success
    squares = _squares(x - images)
    better = good & (squares < search.squares)
    succeeded = jnp.where(good, jnp.maximum(search.succeeded, c), search.succeeded)
    failed = jnp.where(bad, jnp.minimum(search.failed, c), search.failed)
    return search._replace(
        best=select(better, x, search.best),
        squares=jnp.where(better, squares, search.squares),
        best_c=jnp.where(better, c, search.best_c),
        c=jnp.where(ended, next_c(c, succeeded, failed), c),
        succeeded=succeeded,
        failed=failed,
    )


def next_c(c: Array, succeeded: Array, failed: Array) -> Array:
    """Return the c after `c`, given the largest success and the smallest failure."""
    bracketed = (succeeded > 0) & jnp.isfinite(failed)
    middle = jnp.sqrt(succeeded) * jnp.sqrt(jnp.where(bracketed, failed, 1))
    outward = jnp.where(succeeded > 0, c * _FACTOR, c / _FACTOR)
    return jnp.where(bracketed, middle, jnp.clip(outward, *_RANGE))


def search_by_lanes(
    logits_fn: LogitsFn, problem: Problem, search: Search, settings: Settings
) -> Search:
    """Run the search of all images to its end; the results are in their order."""
    num_images = problem.images.shape[0]
    loss, gradient, _ = objective_and_gradient(
        logits_fn, problem, problem.start, search.c, settings
    )
    order = jnp.argsort(~problem.active)
    queue = _Queue(problem, search, loss, gradient, order, jnp.sum(problem.active))
    num_lanes = loops.num_lanes(num_images)
    # Idle lanes, of whose content only the shapes matter.
    lanes = _new_lanes(queue, jnp.arange(num_lanes) + 0 * order[:num_lanes], settings)
    lanes = lanes._replace(index=lanes.index * 0 + num_images)
    lanes, taken = _fill(lanes, queue, queue.length * 0, settings)

    def _run_round(carry: tuple[_Lanes, Search, Array]) -> tuple[_Lanes, Search, Array]:
        lanes, results, taken = carry
        lanes = _advance(logits_fn, lanes, settings)
        lanes = _take_next_c(lanes, settings)
        lanes, results = _hand_in(lanes, results, settings)
        lanes, taken = _fill(lanes, queue, taken, settings)
        return lanes, results, taken

    def _has_work(carry: tuple[_Lanes, Search, Array]) -> Array:
        return jnp.any(carry[0].index < num_images)

    return lax.while_loop(_has_work, _run_round, (lanes, search, taken))[1]


def _new_lanes(queue: _Queue, index: Array, settings: Settings) -> _Lanes:
    """Return lanes at the starts of the images `index` `[L]`."""
    problem, search, loss, gradient = jax.tree.map(
        lambda a: jnp.take(a, index, axis=0, mode="clip"),
        (queue.problem, queue.search, queue.loss, queue.gradient),
    )
    # Not constants: under `shard_map` the carry of a loop must vary with the images.
    lower, upper = (0 * problem.start + bound for bound in settings.bounds)
    options = _options(settings, problem)
    solver = optimizers.begin(problem.start, loss, gradient, lower, upper, options)
    return _Lanes(
        index=index,
        problem=problem,
        search=search._replace(num_evaluations=search.num_evaluations + 1),
        solver=solver,
        success=~problem.active,
        steps=0 * index,
    )


def _options(settings: Settings, problem: Problem) -> optimizers.Options:
    """Return the optimiser's options."""
    return optimizers.Options(
        max_iterations=settings.num_steps,
        memory=settings.memory,
        gradient_tolerance=problem.tolerance,
    )


def _advance(logits_fn: LogitsFn, lanes: _Lanes, settings: Settings) -> _Lanes:
    """Evaluate a trial point in each lane, and accept or reject it."""
    problem, before = lanes.problem, lanes.solver
    trial = optimizers.propose(before)
    value, gradient, logits = objective_and_gradient(
        logits_fn, problem, trial, lanes.search.c, settings
    )
    # The tolerance is a fraction of what the distance adds to the objective.
    squares = _squares(before.x - problem.images)
    least, most = _VALUE_TOLERANCES
    tolerance = jnp.clip(most * (lanes.search.c * squares), least, most)
    options = _options(settings, problem)._replace(value_tolerance=tolerance)
    solver = optimizers.update(before, trial, value, gradient, options)
    success = succeeded_clearly(logits, problem.labels, targeted=settings.targeted)
    count = lanes.search.num_evaluations + optimizers.running(before)
    accepted = solver.iterations > before.iterations
    return lanes._replace(
        search=lanes.search._replace(num_evaluations=count),
        solver=solver,
        success=jnp.where(accepted, success, lanes.success),
    )


def _take_next_c(lanes: _Lanes, settings: Settings) -> _Lanes:
    """Continue lanes whose minimisation has ended with their next c, from its end."""
    solver, images = lanes.solver, lanes.problem.images
    ended = ~optimizers.running(solver)
    steps = lanes.steps + ended
    search = judge(lanes.search, images, solver.x, lanes.success, ended)
    r = solver.x - images
    change = per_image(search.c - lanes.search.c, r)
    solver = optimizers.revise(
        solver,
        ended & (steps < settings.num_search_steps),
        solver.value + jnp.sum(change * r**2, axis=pixel_axes(r)),
        solver.gradient + 2 * change * r,
        solver.memory.gradient_changes + 2 * change[:, None] * solver.memory.steps,
        _options(settings, lanes.problem),
    )
    return lanes._replace(search=search, solver=solver, steps=steps)


def _hand_in(
    lanes: _Lanes, results: Search, settings: Settings
) -> tuple[_Lanes, Search]:
    """Write the results of searches that have ended; mark their lanes as idle."""
    num_images = len(results.c)
    done = lanes.steps >= settings.num_search_steps
    rows = jnp.where(done, lanes.index, num_images)
    results = jax.tree.map(
        lambda all_, ours: all_.at[rows].set(ours, mode="drop"), results, lanes.search
    )
    return lanes._replace(index=jnp.where(done, num_images, lanes.index)), results


def _fill(
    lanes: _Lanes, queue: _Queue, taken: Array, settings: Settings
) -> tuple[_Lanes, Array]:
    """Give idle lanes the next images; return how many images are taken."""
    idle = lanes.index >= len(queue.order)
    position = taken + jnp.cumsum(idle) - 1
    new = idle & (position < queue.length)
    fresh = _new_lanes(queue, jnp.take(queue.order, position, mode="clip"), settings)
    return select(new, fresh, lanes), taken + jnp.sum(new)
