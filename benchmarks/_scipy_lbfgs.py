"""Run Szegedy's attack with SciPy's L-BFGS-B, image by image: the reference for ours.

Tests compare the solvers of `attacks.lbfgs` with it, and `attacks.py` times it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from advgan_jax.attacks import _lbfgs
from advgan_jax.attacks._descent import succeeded_clearly
from advgan_jax.attacks._lbfgs import Problem, Settings
from advgan_jax.attacks.lbfgs import LBFGSResult, begin, end

_VALUE_TOLERANCE = 1e-5
_evaluate = jax.jit(_lbfgs.objective_and_gradient, static_argnames="settings")


def search(
    logits_fn,
    images,
    labels,
    *,
    targeted=False,
    num_search_steps=12,
    num_steps=60,
    memory=10,
    initial_distance_weight=1.0,
    bounds=(0.0, 1.0),
) -> LBFGSResult:
    """Run the same search over c as `attacks.lbfgs_search`; `logits_fn` is a pytree."""
    settings = Settings(num_search_steps, num_steps, memory, targeted, bounds)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    first = jnp.asarray(initial_distance_weight, images.dtype)
    problem, found = begin(logits_fn, images, labels, first, settings=settings)
    everywhere = jnp.ones(len(images), bool)
    x = problem.start
    for _ in range(num_search_steps):
        x, count = solve(logits_fn, problem, x, found.c, settings)
        success = succeeded_clearly(logits_fn(x), labels, targeted=targeted)
        found = _lbfgs.judge(found, images, jnp.asarray(x), success, everywhere)
        found = found._replace(num_evaluations=found.num_evaluations + count)
    return end(logits_fn, problem, found, settings=settings)


def solve(logits_fn, problem: Problem, start, c, settings: Settings):
    """Minimise at a given c; return the minima and the evaluations of each image."""
    problem = jax.tree.map(np.asarray, problem)
    found, c = np.array(start), np.asarray(c)
    shape, dtype = found.shape[1:], found.dtype
    evaluations = np.zeros(len(found), np.int32)

    def value_and_grad(flat: np.ndarray, single: Problem, c: np.ndarray):
        x = flat.reshape(1, *shape).astype(dtype)
        value, gradient, _ = _evaluate(logits_fn, single, x, c, settings)
        return float(value[0]), np.asarray(gradient, np.float64).ravel()

    for i in np.flatnonzero(problem.active):
        single = jax.tree.map(lambda a, i=i: a[i : i + 1], problem)
        result = scipy.optimize.minimize(
            partial(value_and_grad, single=single, c=c[i : i + 1]),
            found[i].ravel().astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(*settings.bounds),
            options={
                "maxiter": settings.num_steps,
                "maxcor": settings.memory,
                "ftol": _VALUE_TOLERANCE,
                "gtol": float(problem.tolerance[i]),
            },
        )
        found[i] = np.clip(result.x.reshape(shape), *settings.bounds)
        evaluations[i] = result.nfev
    return found, evaluations
