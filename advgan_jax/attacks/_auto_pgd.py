"""The loop of Auto-PGD; see `apgd`.

A look evaluates the model at an iterate; the step to the next one follows. A run is one
start or more phases, each of which begins at the best point of the last one. Each lane
of the pool has its own image, run and number of looks.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.attacks import _descent
from advgan_jax.attacks._descent import Candidate, select
from advgan_jax.attacks._norms import Ball, per_image
from advgan_jax.attacks._planes import least_of_largest
from advgan_jax.attacks._pool import rows_of, run_in_lanes
from advgan_jax.projections import pixel_axes
from advgan_jax.types import Array, LogitsFn

_MOMENTUM = 0.75
# Share of the steps that must have improved the loss for the step size to stay.
_PROGRESS = 0.75
# In L1: radii of the phases in epsilons, and the share of the steps of all but the
# last; what the number of moved pixels and the step size are divided by; the share of
# moved pixels that counts as sparser, and the smallest step in radii.
_RADII, _PHASE, _FEWEST_STEPS = (3, 2, 1), 0.3, 5
_SHRINK, _SPARSER, _LEAST_STEP = 1.5, 0.95, 0.1
_FIRST_SHARE = 0.2  # of the pixels, where the start is the image itself
_CHECK_EVERY = 0.04
_ADDED_LENGTH = 1e-12  # AutoAttack's code adds it to that of the gradient


class Plan(NamedTuple):
    """What happens at each look of a run."""

    begins: Array  # whether a phase begins
    radius: Array  # of the ball, in epsilons
    window: Array  # number of steps since the last checkpoint, 0 if it is none


class Task(NamedTuple):
    """What a batch of runs attacks; the arrays have one row per image."""

    logits_fn: LogitsFn
    # From logits, labels and the classes of a run to the losses.
    loss_fn: Callable[[Array, Array, Array], Array]
    ball: Ball
    labels: Array
    classes: Array  # the wanted class of each run, `[B, num_runs]`
    directions: Array  # off points without a gradient
    active: Array  # which images are attacked
    noise: Callable[[Array, Array, Array], Array] | None  # (images, ids, runs)
    targeted: bool
    stop: bool  # whether an image ends at its first success
    as_in_autoattack: bool = False


class _Point(NamedTuple):
    """An iterate with its success and loss, and its gradient."""

    candidate: Candidate
    gradient: Array


class _State(NamedTuple):
    """The lanes: one image each."""

    index: Array  # of the image
    images: Array
    labels: Array
    classes: Array  # wanted ones, `[L, num_runs]`
    directions: Array
    run: Array
    look: Array  # number of the next look of this run
    x: Array  # where it looks, before the projection
    now: _Point  # where the step to `x` began
    best: _Point  # of least loss, where halved steps and phases begin
    found: Candidate  # of least loss among the successful ones of all runs
    step_size: Array
    num_improved: Array  # since the last checkpoint, like the next two
    was_halved: Array
    loss_before: Array
    num_moved: Array  # in L1: pixels of the best iterate at the last checkpoint
    num_chosen: Array  # in L1: pixels that a step moves


def make_plan(num_steps: int, norm: str) -> Plan:
    """Return the plan of a run of `num_steps` steps."""
    phases = [(1, num_steps)]
    if norm == "l1" and num_steps >= _FEWEST_STEPS:
        length = math.ceil(_PHASE * num_steps)
        lengths = length, length, num_steps - 2 * length
        phases = list(zip(_RADII, lengths, strict=True))
    begins, radii, checks = [], [], []
    for radius, length in phases:
        begins.append(np.arange(length + 1) == 0)
        radii.append(np.full(length + 1, radius))
        checks.append(_regular(length) if norm == "l1" else windows(length))
    columns = map(np.concatenate, (begins, radii, checks))
    return Plan(*map(jnp.asarray, columns))


def _regular(num_steps: int) -> np.ndarray:
    """Return checkpoints at equal distances, as `windows` does."""
    every = max(int(_CHECK_EVERY * num_steps), 1)
    steps = np.arange(num_steps + 1)
    return np.where((steps > 0) & (steps % every == 0), every, 0)


def windows(num_steps: int) -> np.ndarray:
    """Return for each step the steps since the last checkpoint, 0 if it is none."""
    found = np.zeros(num_steps + 1, np.int32)
    last, percent, width = 0, 22, 22
    while (checkpoint := -(-percent * num_steps // 100)) < num_steps:
        if checkpoint > last:  # in short runs several fall on one step
            found[checkpoint] = checkpoint - last
        last = checkpoint
        width = max(width - 3, 6)
        percent += width
    return found


def run_all(task: Task, plan: Plan, norm: str) -> Candidate:
    """Run every image to its end; return its best iterate within the ball."""
    images = task.ball.images
    last, num_runs = len(plan.begins) - 1, task.classes.shape[1]
    everything = images, task.labels, task.classes, task.directions

    def _begin(index: Array | None) -> _State:
        return _first_state(task, *rows_of(everything, task.labels, index))

    def _advance(state: _State) -> tuple[_State, Array]:
        row = Plan(*(entries[state.look] for entries in plan))
        state = _evaluate(task, state, row)
        state = _adapt(state, row, task.ball.epsilon, norm)
        completed = state.look >= last
        ended = completed & (state.run >= num_runs - 1)
        if task.stop:
            ended |= state.found.succeeded
        # A phase begins at the best point of the last one, in a smaller ball.
        next_begins = plan.begins[jnp.minimum(state.look + 1, last)]
        x = _next_x(task, state, row, norm)
        x = select(next_begins, state.best.candidate.images, x)
        state = state._replace(
            x=x,
            run=state.run + completed,
            look=jnp.where(completed, 0, state.look + 1),
        )
        if num_runs > 1:
            state = jax.lax.cond(
                jnp.any(completed),
                lambda s: s._replace(x=select(completed, _start(task, s), s.x)),
                lambda s: s,
                state,
            )
        return state, ended

    nothing = jnp.full_like(jnp.sum(images, pixel_axes(images)), jnp.inf)
    results = Candidate(images, nothing < 0, nothing)
    return run_in_lanes(_begin, _advance, lambda s: s.found, results, task.active)


def _first_state(
    task: Task, index: Array, rows: tuple[Array, Array, Array, Array]
) -> _State:
    """Return states in front of their first look."""
    images, labels, classes, directions = rows
    zeros = jnp.sum(images, pixel_axes(images)) * 0
    count = zeros.astype(jnp.int32)
    candidate = Candidate(images, zeros > 0, zeros + jnp.inf)
    point = _Point(candidate, jnp.zeros_like(images))
    state = _State(
        *(index, images, labels, classes, directions),
        run=count,
        look=count,
        x=images,
        now=point,
        best=point,
        found=candidate,
        step_size=zeros,
        num_improved=count,
        was_halved=zeros > 0,
        loss_before=zeros,
        num_moved=count,
        num_chosen=count,
    )
    return state._replace(x=_start(task, state))


def _ball(task: Task, state: _State, radius: Array) -> Ball:
    """Return the balls of the lanes; `radius` is in epsilons."""
    size = task.ball.epsilon * per_image(radius.astype(state.x.dtype), state.x)
    return task.ball._replace(images=state.images, epsilon=size)


def _start(task: Task, state: _State) -> Array:
    """Return the starts of the lanes' runs, before their projection."""
    if task.noise is None:
        return state.images
    return state.images + task.noise(state.images, state.index, state.run)


def _evaluate(task: Task, state: _State, row: Plan) -> _State:
    """Look at `x`, projected, and keep what is best."""
    x = _ball(task, state, row.radius).project(state.x)
    classes = jnp.take_along_axis(state.classes, state.run[:, None], 1)

    def _total(x: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = task.logits_fn(x)
        losses = task.loss_fn(logits, state.labels, classes[:, 0])
        return jnp.sum(losses), (logits, jnp.where(jnp.isnan(losses), jnp.inf, losses))

    (_, (logits, losses)), gradient = jax.value_and_grad(_total, has_aux=True)(x)
    success = _descent.succeeded(logits, state.labels, targeted=task.targeted)
    gradient, lost = _descent.usable(gradient, success)
    gradient = select(lost, -state.directions, gradient)
    new = Candidate(x, success, losses)
    point, first = _Point(new, gradient), row.begins
    improved = (new.loss < state.now.candidate.loss).astype(jnp.int32)
    less = first | (new.loss < state.best.candidate.loss)
    kept = _keep_better(state.found, new)
    return state._replace(
        now=point._replace(candidate=new),
        best=select(less, point, state.best),
        found=select(row.radius == 1, kept, state.found),
        # Until the step is taken, `x` is where the last one began.
        x=select(first, x, state.now.candidate.images),
        num_improved=jnp.where(first, 0, state.num_improved + improved),
        was_halved=~first & state.was_halved,
        loss_before=jnp.where(first, new.loss, state.loss_before),
    )


def _adapt(state: _State, row: Plan, epsilon: Array | float, norm: str) -> _State:
    """Set the first step size of a phase, and adapt it at a checkpoint."""
    longest = row.radius.astype(state.step_size.dtype) * epsilon
    if norm == "l1":
        return _adapt_l1(state, row, longest)
    step_size = jnp.where(row.begins, 2 * longest, state.step_size)
    due = row.window > 0
    least = state.best.candidate.loss
    oscillates = state.num_improved <= _PROGRESS * row.window
    stalls = ~state.was_halved & (least >= state.loss_before)
    halve = due & (oscillates | stalls)
    return state._replace(
        now=select(halve, state.best, state.now),
        step_size=jnp.where(halve, step_size / 2, step_size),
        num_improved=jnp.where(due, 0, state.num_improved),
        was_halved=jnp.where(due, halve, state.was_halved),
        loss_before=jnp.where(due, least, state.loss_before),
    )


def _adapt_l1(state: _State, row: Plan, longest: Array) -> _State:
    """Adapt the step size, and the number of moved pixels, to those of the best."""
    axes, size = pixel_axes(state.images), math.prod(state.images.shape[1:])
    moved = jnp.sum(state.best.candidate.images != state.images, axis=axes)
    first, due = row.begins, row.window > 0
    sparser = due & (moved < _SPARSER * state.num_moved)
    shorter = jnp.maximum(state.step_size / _SHRINK, _LEAST_STEP * longest)
    step_size = jnp.where(due & ~sparser, shorter, state.step_size)
    chosen = jnp.where(moved > 0, moved / _SHRINK, _FIRST_SHARE * size)
    return state._replace(
        now=select(sparser, state.best, state.now),
        step_size=jnp.where(first | sparser, longest, step_size),
        num_moved=jnp.where(first | due, moved, state.num_moved),
        num_chosen=jnp.where(first | due, chosen, state.num_chosen).astype(jnp.int32),
    )


def _next_x(task: Task, state: _State, row: Plan, norm: str) -> Array:
    """Take the step from `now`; `x` is where the last one began."""
    x = state.now.candidate.images
    gradient, length = -state.now.gradient, per_image(state.step_size, x)
    if norm == "l1":
        # Also pixels at an edge of the box count; the projection returns them.
        slopes = jnp.abs(gradient)
        least = least_of_largest(slopes, jnp.ones_like(x), state.num_chosen)
        signs = jnp.where(slopes >= per_image(least, x), jnp.sign(gradient), 0)
        number = jnp.sum(jnp.abs(signs), axis=pixel_axes(x), keepdims=True)
        return x + length * signs / jnp.maximum(number, 1)
    if norm == "l2" and task.as_in_autoattack:
        unit = gradient * (task.ball.bounds[1] - task.ball.bounds[0])
        # Not `norm_l2`: that code loses the smallest squares, too.
        size = jnp.sqrt(jnp.sum(unit**2, pixel_axes(x), keepdims=True))
        length /= 1 + _ADDED_LENGTH / size
    z = _ball(task, state, row.radius).step(x, gradient, length)
    # There is no velocity yet in the first step.
    weight = per_image(jnp.where(row.begins, 1.0, _MOMENTUM).astype(x.dtype), x)
    return x + weight * (z - x) + (1 - weight) * (x - state.x)


def _keep_better(old: Candidate, new: Candidate) -> Candidate:
    """Prefer success, then the lower loss."""
    less = (new.loss < old.loss) & (new.succeeded == old.succeeded)
    return select((new.succeeded & ~old.succeeded) | less, new, old)
