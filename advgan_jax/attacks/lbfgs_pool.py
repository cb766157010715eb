r"""The search over c of many images by a pool of lanes that never wait.

A model's value and gradient cost about the same per image whether one or many are
evaluated together, at least on CPU. What decides is how many are evaluated and how many
of them in vain. So a fixed number of lanes works off the images: a lane whose
minimisation has ended is judged and takes its next c at once, and a lane whose search
has ended takes the next waiting image. Each round evaluates one trial point per lane.

Another c changes only the weight of the distance. At the same point and along the same
curvature pairs `(s, y)` the new objective has

.. math:: f' = f + (c' - c) \lVert r\rVert^2, \quad g' = g + 2 (c' - c) r, \quad
    y' = y + 2 (c' - c) s,

exactly: nothing is evaluated anew and nothing learnt is lost.

Each point is judged by the logits of its evaluation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from advgan_jax import optimizers
from advgan_jax.attacks import criteria
from advgan_jax.attacks.lbfgs_bracket import Search, judge
from advgan_jax.attacks.lbfgs_solvers import (
    GRADIENT_TOLERANCE,
    Problem,
    Settings,
    evaluate,
)
from advgan_jax.cpu import loops
from advgan_jax.types import Array, LogitsFn

# Relative decrease of the objective that ends a minimisation. Where the distance is a
# large part of the objective the greater does: with 1e-5 distances stay the same, for
# twice the evaluations. Close to a boundary the loss would hide what the distance does.
_VALUE_TOLERANCES = (1e-5, 1e-4)


class Lanes(NamedTuple):
    """What each lane works on; each field has the lanes' axis first."""

    index: Array  # of its image; the number of images where the lane is idle
    problem: Problem
    search: Search
    solver: optimizers.State
    success: Array  # whether `solver.x` is adversarial
    steps: Array  # values of c that were tried


class Queue(NamedTuple):
    """The images that are to be attacked, and all about them that a lane needs."""

    problem: Problem
    search: Search
    loss: Array  # the objective at the clean image, whatever c
    gradient: Array
    order: Array  # image ids, those to be attacked first
    length: Array  # how many are


def search_by_lanes(
    logits_fn: LogitsFn,
    problem: Problem,
    search: Search,
    num_search_steps: int,
    *,
    settings: Settings,
) -> Search:
    """Runs the search of all images to its end.

    Args:
      logits_fn: the attacked model.
      problem: images and labels.
      search: from `begin`.
      num_search_steps: values of c to be tried for each image.
      settings: of the solver.

    Returns:
      The finished searches, in the order of the images.
    """
    num_images = problem.images.shape[0]
    num_lanes = loops.num_lanes(num_images)
    queue = _enqueue(logits_fn, problem, search, settings)
    lanes, taken = _fill(
        _idle(queue, num_lanes, settings), queue, queue.length * 0, settings
    )

    def work(carry: tuple[Lanes, Search, Array]) -> tuple[Lanes, Search, Array]:
        lanes, results, taken = carry
        lanes = _advance(logits_fn, lanes, settings)
        lanes = _next_c(lanes, num_search_steps, settings)
        lanes, results = _hand_in(lanes, results, num_search_steps)
        lanes, taken = _fill(lanes, queue, taken, settings)
        return lanes, results, taken

    return lax.while_loop(
        lambda carry: jnp.any(carry[0].index < num_images),
        work,
        (lanes, search, taken),
    )[1]


def _enqueue(
    logits_fn: LogitsFn, problem: Problem, search: Search, settings: Settings
) -> Queue:
    loss, gradient, _ = evaluate(
        logits_fn, problem, problem.images, search.c, targeted=settings.targeted
    )
    order = jnp.argsort(~problem.active)
    return Queue(problem, search, loss, gradient, order, jnp.sum(problem.active))


def _idle(queue: Queue, num_lanes: int, settings: Settings) -> Lanes:
    """Lanes without work; what stands in them only has the right shape."""
    rows = jnp.arange(num_lanes) + 0 * queue.order[:num_lanes]
    lanes = _start(queue, rows, settings)
    return lanes._replace(index=rows * 0 + len(queue.order))


def _start(queue: Queue, index: Array, settings: Settings) -> Lanes:
    """Lanes that set out from the clean images `index` `[L]`."""
    problem, search, loss, gradient = jax.tree.map(
        lambda a: jnp.take(a, index, axis=0, mode="clip"),
        (queue.problem, queue.search, queue.loss, queue.gradient),
    )
    images = problem.images
    # Not constants: under `shard_map` they go through loops beside what varies.
    lower, upper = (0 * images + bound for bound in settings.bounds)
    solver = optimizers.begin(images, loss, gradient, lower, upper, _options(settings))
    return Lanes(
        index=index,
        problem=problem,
        search=search._replace(evaluations=search.evaluations + 1),
        solver=solver,
        success=~problem.active,
        steps=0 * index,
    )


def _options(settings: Settings) -> optimizers.Options:
    return optimizers.Options(
        max_iterations=settings.num_steps,
        memory=settings.memory,
        gradient_tolerance=GRADIENT_TOLERANCE,
    )


def _value_tolerance(lanes: Lanes) -> Array:
    """A fraction of what the distance adds to the objective, `[L]`."""
    r = lanes.solver.x - lanes.problem.images
    distance = lanes.search.c * jnp.sum(r**2, axis=(1, 2, 3))
    least, most = _VALUE_TOLERANCES
    return jnp.clip(most * distance, least, most)


def _advance(logits_fn: LogitsFn, lanes: Lanes, settings: Settings) -> Lanes:
    """Evaluates a trial point in each lane, judges it and acts on it."""
    problem, before = lanes.problem, lanes.solver
    trial = optimizers.propose(before)
    value, gradient, logits = evaluate(
        logits_fn, problem, trial, lanes.search.c, targeted=settings.targeted
    )
    options = _options(settings)._replace(value_tolerance=_value_tolerance(lanes))
    solver = optimizers.update(before, trial, value, gradient, options)
    success = criteria.succeeded_clearly(
        logits, problem.labels, targeted=settings.targeted
    )
    evaluations = lanes.search.evaluations + optimizers.running(before)
    accepted = solver.iterations > before.iterations
    return lanes._replace(
        search=lanes.search._replace(evaluations=evaluations),
        solver=solver,
        success=jnp.where(accepted, success, lanes.success),
    )


def _next_c(lanes: Lanes, num_search_steps: int, settings: Settings) -> Lanes:
    """Lanes whose minimisation has ended go on from there with their next c."""
    solver, images = lanes.solver, lanes.problem.images
    ended = ~optimizers.running(solver)
    steps = lanes.steps + ended
    search = judge(lanes.search, images, solver.x, lanes.success, ended)
    r = solver.x - images
    change = (search.c - lanes.search.c)[:, None, None, None]
    solver = optimizers.revise(
        solver,
        ended & (steps < num_search_steps),
        solver.value + jnp.sum(change * r**2, axis=(1, 2, 3)),
        solver.gradient + 2 * change * r,
        solver.memory.gradient_changes + 2 * change[:, None] * solver.memory.steps,
        _options(settings),
    )
    return lanes._replace(search=search, solver=solver, steps=steps)


def _hand_in(
    lanes: Lanes, results: Search, num_search_steps: int
) -> tuple[Lanes, Search]:
    """Writes the searches that have ended to their places; their lanes are idle."""
    num_images = len(results.c)
    done = lanes.steps >= num_search_steps
    rows = jnp.where(done, lanes.index, num_images)
    results = jax.tree.map(
        lambda all_, ours: all_.at[rows].set(ours, mode="drop"), results, lanes.search
    )
    return lanes._replace(index=jnp.where(done, num_images, lanes.index)), results


def _fill(
    lanes: Lanes, queue: Queue, taken: Array, settings: Settings
) -> tuple[Lanes, Array]:
    """Idle lanes take the next images, as long as there are any."""
    idle = lanes.index >= len(queue.order)
    position = taken + jnp.cumsum(idle) - 1
    new = idle & (position < queue.length)
    fresh = _start(queue, jnp.take(queue.order, position, mode="clip"), settings)

    def select(new_one: Array, old: Array) -> Array:
        return jnp.where(new.reshape(-1, *(1,) * (old.ndim - 1)), new_one, old)

    return jax.tree.map(select, fresh, lanes), taken + jnp.sum(new)
