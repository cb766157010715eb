"""The child process of `generation` that makes our images."""

import json
import sys
import time

import _measure  # noqa: F401 (sets up memory on a GPU)
import _success
import _task
import jax
import jax.numpy as jnp

from advgan_jax import models, parallel
from advgan_jax.cpu import process
from advgan_jax.generators import TrainedGenerator
from advgan_jax.training import precision


def generate_fn(settings):
    """Return our attack, not yet compiled, as `images -> adversarial images`.

    Under `jit` no pixel is checked on the host. The rivals check none either.
    """
    widths = tuple(settings["widths"])
    generator = models.Generator(_task.EPSILON, widths, settings["num_residual"])
    fresh = jnp.zeros((1, 28, 28, 1))
    params = generator.init(jax.random.key(0), fresh)["params"]
    attack = TrainedGenerator(
        precision.mixed_module(settings["dtype"], generator),
        params,
        epsilon=_task.EPSILON,
        image_shape=_task.MNIST,
        num_classes=10,
    )
    return jax.jit(attack.perturb)


def main():
    settings = json.loads(sys.argv[1])
    jax.config.update("jax_enable_compilation_cache", False)
    if jax.config.jax_platforms in (None, "cpu"):
        process.split_cpu(settings["cut"])
        process.compute_in_caller()
    process.keep_memory()
    batches = [
        parallel.spread(batch) if settings["cut"] > 1 else jnp.asarray(batch)
        for batch in _success.random_batches(settings)
    ]
    start = time.perf_counter()
    generate = generate_fn(settings)
    jax.block_until_ready(generate(batches[0]))
    print(json.dumps(time.perf_counter() - start))
    _success.in_turns(
        lambda: jax.block_until_ready([generate(batch) for batch in batches])
    )


if __name__ == "__main__":
    main()
