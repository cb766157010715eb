"""Predict what an AdvGAN step costs on many chips.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --measure     # times one device

FLOPs are XLA's count of the step before optimisation, bytes those of the gradients that
all devices average. docs/scaling.md explains the model of time: a chip computes at a
share of its peak, a ring sends `2 (n - 1) / n` times the gradients, and each of four
successive all-reduces waits for every hop of the torus. `--measure` checks the
computation, F / (u P), on the present device: P is the rate of a large matrix product,
u is fitted on one step and predicts the others.
"""

import math
from typing import NamedTuple
from unittest import mock

import _measure
import jax
import jax.numpy as jnp
from absl import app, flags

from advgan_jax import models
from advgan_jax.configs import advgan as advgan_config
from advgan_jax.runs.from_config import gans
from advgan_jax.training import advgan
from advgan_jax.types import Batch

_MEASURE = flags.DEFINE_bool("measure", False, "Time one device instead.")

CHIPS = (1, 8, 64, 256)
FIRST = 2  # all-reduces besides those of the gradients


class Chip(NamedTuple):
    """An accelerator with the numbers of data sheets; the share is a guess."""

    peak: float = 197e12  # FLOP/s in bfloat16, TPU v5e
    share: float = 0.1  # narrow convolutions fill few of its units
    link: float = 45e9  # bytes/s each way along one ring
    hop: float = 1e-6  # seconds from chip to chip


class Work(NamedTuple):
    """A workload."""

    variant: str
    target: str
    shape: tuple
    classes: int
    batch: int  # of one chip
    timed: tuple  # batches of one device under --measure


WORKLOADS = {
    "mnist": Work("mnist", "C", (28, 28, 1), 10, 128, (128, 32)),
    "cifar10": Work("cifar10", "resnet32", (32, 32, 3), 10, 128, (16, 4)),
    "imagenet": Work("cifar10", "resnet32", (299, 299, 3), 1000, 32, (1, 2)),
}


def step_of(work):
    """Return the step, and a function for its state and the target model's weights."""
    config = advgan_config.get_config(work.variant)
    networks = gans.make_networks(config, 10, 1)
    objective = gans.advgan_objective(config, 10)
    target = models.make_classifier(work.target, work.classes)
    step = advgan.make_train_step(networks, objective)
    images = jnp.zeros((1, *work.shape))

    def init():
        key = jax.random.key(0)
        return advgan.init_state(networks, key, work.shape), target.init(key, images)

    def run(state, batch, variables):
        return step(state, batch, models.make_logits_fn(target, variables))

    return run, init


def batch_of(work, size):
    images = jnp.full((size, *work.shape), 0.5)
    return Batch(images, jnp.zeros(size, jnp.int32))


def flops(work, size):
    run, init = step_of(work)
    state, variables = jax.eval_shape(init)
    batch = jax.eval_shape(lambda: batch_of(work, size))
    # Our convolutions for a CPU are loops, of which XLA counts one iteration.
    with mock.patch("jax.default_backend", return_value="plain"):
        lowered = jax.jit(run).lower(state, batch, variables)
    return lowered.cost_analysis()["flops"]


def gradient_bytes(work):
    _, init = step_of(work)
    state, _ = jax.eval_shape(init)
    leaves = jax.tree.leaves((state.generator.params, state.discriminator.params))
    return 4 * sum(math.prod(leaf.shape) for leaf in leaves)


def seconds(chips, chip, work_flops, num_bytes):
    """Predict the seconds of a step: computation, and communication."""
    compute = work_flops / (chip.peak * chip.share)
    sent = 2 * (chips - 1) / chips * num_bytes / chip.link
    # There and back along both sides of a square torus.
    hops = 0 if chips == 1 else 4 * (math.sqrt(chips) - 1)
    return compute, sent + (FIRST + 2) * hops * chip.hop


def predict(name, work, chip):
    one, two = flops(work, 1), flops(work, 2)
    per_image = two - one
    fixed = one - per_image
    num_bytes = gradient_bytes(work)
    for chips in CHIPS:
        step_flops = fixed + per_image * work.batch
        compute, network = seconds(chips, chip, step_flops, num_bytes)
        yield {
            "workload": name,
            "chips": chips,
            "GFLOP/image": per_image / 1e9,
            "all-reduced MB": num_bytes / 1e6,
            "computation ms": 1e3 * compute,
            "network ms": 1e3 * network,
            "images/s": chips * work.batch / (compute + network),
            "efficiency": compute / (compute + network),
        }


def peak(size=2048):
    """Return FLOP/s of a float32 product of square matrices, the best of some."""
    size = _measure.smaller(size, 64)
    matrix = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))
    seconds = [
        _measure.timed(
            lambda: jax.block_until_ready(product(matrix, matrix)), {}, "product"
        )
        for _ in range(_measure.repeats())
    ]
    return 2 * size**3 / min(seconds)


def measure(name, work):
    """Measure a step on one device: median seconds and FLOP/s."""
    run, init = step_of(work)
    state, variables = jax.jit(init)()
    compiled = jax.jit(run)
    for size in work.timed:
        batch = batch_of(work, size)
        thunks = {
            name: lambda b=batch: jax.block_until_ready(compiled(state, b, variables))
        }
        median = _measure.in_turns(thunks, _measure.repeats())[0][name]
        count = flops(work, size)
        yield {
            "workload": name,
            "batch": size,
            "GFLOP": count / 1e9,
            "ms": 1e3 * median,
            "GFLOP/s": count / median / 1e9,
        }


def against_model(rows, matmul):
    """Add the share u of the peak to measured rows, and what the first u predicts.

    Args:
      rows: from `measure`.
      matmul: P, FLOP/s.
    """
    fitted = rows[0]["GFLOP/s"] * 1e9 / matmul
    for row in rows:
        predicted = 1e12 * row["GFLOP"] / (fitted * matmul)
        row["peak GFLOP/s"] = matmul / 1e9
        row["u"] = row["GFLOP/s"] * 1e9 / matmul
        row["predicted ms"] = predicted
        row["measured / predicted"] = row["ms"] / predicted


def main(argv):
    del argv
    rows = []
    for name, work in _measure.chosen(WORKLOADS).items():
        rows += measure(name, work) if _MEASURE.value else predict(name, work, Chip())
    if _MEASURE.value:
        against_model(rows, peak())
    _measure.report(_measure.environment(), rows, [])


if __name__ == "__main__":
    app.run(main)
