"""Compare three L-BFGS on Szegedy's training objective: which one reaches the minimum?

    python benchmarks/full_batch.py

Trains FC100-100-10 and FC10(1e-4) on all 1,437 training digits at once, from one start,
with twenty curvature pairs. Prints the loss, the largest entry of its gradient,
iterations and seconds of `optax.lbfgs` (zoom line search), of the projected L-BFGS of
`advgan_jax.optimizers` without a box (backtracking) and of `jax.scipy.optimize`.
"""

import argparse
import time

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.optimize import minimize

from advgan_jax import data, models, optimizers
from advgan_jax.training import full_batch
from advgan_jax.types import Batch

MODELS = {"fc10": (1e-4,), "fc100_100_10": (1e-5, 1e-5, 1e-6)}
MEMORY = 20


def by_optax(objective, params, batch, num_steps):
    """Run ten iterations per call, as the runs do, until convergence."""
    run = full_batch.until_converged(
        full_batch.make_train_step(objective),
        10,
        gradient_tolerance=1e-7,
        value_tolerance=1e-5,
    )
    run = jax.jit(run).lower(full_batch.init_state(params), batch).compile()
    start, state = time.perf_counter(), full_batch.init_state(params)
    for _ in range(num_steps // 10):
        state, metrics = run(state, batch)
        if metrics["converged"]:
            break
    return state.model.params, int(state.step), time.perf_counter() - start


def by_projected(objective, params, batch, num_steps):
    flat, restore = ravel_pytree(params)

    def value_and_grad(x):
        fn = jax.value_and_grad(lambda x: objective(restore(x), batch)[0])
        value, gradient = fn(x[0])
        return value[None], gradient[None]

    def solve(x):
        return optimizers.minimize(
            value_and_grad,
            x[None],
            -jnp.inf,
            jnp.inf,
            max_iterations=num_steps,
            memory=MEMORY,
            gradient_tolerance=1e-7,
            value_tolerance=0.0,
        )

    solve = jax.jit(solve).lower(flat).compile()
    start = time.perf_counter()
    found = jax.block_until_ready(solve(flat))
    seconds = time.perf_counter() - start
    return restore(found.x[0]), int(found.iterations[0]), seconds


def by_jax(objective, params, batch, num_steps):
    flat, restore = ravel_pytree(params)

    def solve(x):
        return minimize(
            lambda x: objective(restore(x), batch)[0],
            x,
            method="l-bfgs-experimental-do-not-rely-on-this",
            options={"maxiter": num_steps, "maxcor": MEMORY, "gtol": 1e-7, "ftol": 0.0},
        )

    solve = jax.jit(solve).lower(flat).compile()
    start = time.perf_counter()
    found = jax.block_until_ready(solve(flat))
    seconds = time.perf_counter() - start
    return restore(found.x), int(found.nit), seconds


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--num_steps", type=int, default=600)
    num_steps = parser.parse_args().num_steps
    digits = data.load_dataset("digits")
    batch = Batch(jnp.asarray(digits.train.images), jnp.asarray(digits.train.labels))
    print("model          solver      iterations  loss      gradient  seconds")
    for name, decays in MODELS.items():
        model = models.make_classifier(name, digits.num_classes)
        objective = full_batch.classification(model, decays)
        params = model.init(jax.random.key(0), batch.images[:1])["params"]
        for solver in (by_optax, by_projected, by_jax):
            found, steps, seconds = solver(objective, params, batch, num_steps)
            (loss, _), gradient = jax.value_and_grad(objective, has_aux=True)(
                found, batch
            )
            largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
            print(
                f"{name:14} {solver.__name__[3:]:11} {steps:10} {float(loss):9.6f} "
                f"{largest:9.1e} {seconds:8.1f}"
            )


if __name__ == "__main__":
    main()
