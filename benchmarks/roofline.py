r"""Measure how close each training step comes to the limits of the machine.

    python benchmarks/roofline.py

.. math:: \text{share} = \max(F / P,\; M / W) / t

A step of t seconds makes F operations and moves M bytes. The same run measures P, the
speed of a large float32 matrix product, and W, that of a copy. F and M are XLA's own
estimates for the program with XLA's convolutions, because XLA counts one iteration of a
loop and ours are loops on a CPU. M counts all that operations read and write, from
caches too. The share of W is therefore only a hint and may exceed 1; the share of P is
printed next to it.
"""

from typing import NamedTuple

import _measure
import _task
import jax
import jax.numpy as jnp
import optax
from absl import app, flags, logging

from advgan_jax import attacks, data, models
from advgan_jax.cpu import process
from advgan_jax.training import advgan, aigan, classifier, distillation
from advgan_jax.training.gan import Networks
from advgan_jax.types import Batch

BATCH = flags.DEFINE_integer("batch", 128, "Images per step.")

_ATTACKER_STEPS = 5
_PGD_STEPS = 40


class Work(NamedTuple):
    flops: float
    bytes: float

    def and_times(self, number, other):
        return Work(
            self.flops + number * other.flops, self.bytes + number * other.bytes
        )


class Case(NamedTuple):
    """A step to time, and how to count its operations.

    Attributes:
      step: `args -> anything`.
      args: its arguments.
      counted: the same with loops of one iteration, because XLA counts only one.
      turns: how many more attack steps `step` makes than `counted`.
    """

    step: object
    args: tuple
    counted: object
    turns: int = 0


def work(step, args):
    """Return XLA's count for a step as other platforms than a CPU trace it."""
    # A new function, because JAX caches traces by function.
    lowered = jax.jit(_measure.traced_as("plain", step)).lower(*args)
    # FLOPs before compilation: a GPU's compiler makes library calls, which have no
    # count. Bytes after it: before, there is no count, and fusion saves accesses.
    done = lowered.cost_analysis()["flops"]
    return Work(done, lowered.compile().cost_analysis()["bytes accessed"])


def median_seconds(step, args):
    compiled = jax.jit(step)
    thunks = {"step": lambda: jax.block_until_ready(compiled(*args))}
    return _measure.in_turns(thunks, _measure.smaller(15, 1))[0]["step"]


def peak_flops():
    """Return operations per second of the fastest of some matrix products."""
    speeds = []
    for side in _measure.smaller((1024, 2048, 4096), (128,)):
        x = jnp.ones((side, side))
        speeds.append(2 * side**3 / median_seconds(jnp.matmul, (x, x)))
    return max(speeds)


def copy_speed():
    """Return bytes per second, read and written, for an array larger than caches."""
    x = jnp.ones(_measure.smaller(2**27, 2**16))
    return 2 * x.nbytes / median_seconds(lambda x: x + 1, (x,))


def _shape():
    return _measure.smaller(_task.MNIST, (8, 8, 1))


def _model_c():
    return models.make_classifier(_measure.smaller("C", "small"), 10)


def _advgan(batch, target):
    networks = _task.networks()
    state = advgan.init_state(networks, jax.random.key(0), _shape())
    step = advgan.make_train_step(networks, advgan.AdvGANObjective(_task.EPSILON))
    return Case(step, (state, batch, target), step)


def _classifier(batch, target):
    del target
    model, optimizer = _model_c(), optax.adam(1e-3)
    state = classifier.init_state(model, optimizer, jax.random.key(0), _shape())
    step = classifier.make_train_step(model, optimizer)
    return Case(step, (state, batch), step)


def _distillation(batch, target):
    model, optimizer = _model_c(), optax.adam(1e-3)
    state = distillation.init_state(model, optimizer, jax.random.key(0), _shape())
    answers = jax.nn.softmax(target(batch.images))
    step = distillation.make_train_step(model, optimizer)
    return Case(step, (state, Batch(batch.images, answers)), step)


def aigan_networks(num_classes=10):
    """Return AI-GAN's networks of the configurations, with a constant learning rate."""
    return Networks(
        models.ConditionalGenerator(
            _task.EPSILON,
            num_classes,
            widths=_measure.smaller((16, 32, 64), (2, 2, 2)),
            num_residual=_measure.smaller(2, 0),
        ),
        models.Discriminator(widths=_measure.smaller((8, 16, 32), (2, 2))),
        optax.adam(1e-3, b1=0.5),
        optax.adam(1e-3, b1=0.5),
    )


def _aigan(stage):
    def case(batch, target):
        networks = aigan_networks()
        objective = aigan.AIGANObjective(_task.EPSILON, 10)
        state = aigan.init_state(networks, jax.random.key(0), _shape())
        args = (state, batch, target)
        if stage == 2:
            step = aigan.make_second_step(networks, objective)
            return Case(step, args, step)
        step, once = (
            aigan.make_first_step(
                networks,
                objective,
                attacks.make_attack("pgd", epsilon=_task.EPSILON, num_steps=turns),
            )
            for turns in (_ATTACKER_STEPS, 1)
        )
        return Case(step, args, once, _ATTACKER_STEPS - 1)

    return case


def _pgd(num_steps):
    def attack(batch, target):
        options = {"epsilon": _task.EPSILON, "key": jax.random.key(0)}
        return attacks.pgd(
            target, batch.images, batch.labels, num_steps=num_steps, **options
        )

    return attack


def _pgd_case(batch, target):
    return Case(_pgd(_PGD_STEPS), (batch, target), _pgd(1), _PGD_STEPS - 1)


PARTS = {
    "advgan": ("AdvGAN step", _advgan),
    "classifier": ("model C step", _classifier),
    "aigan_one": ("AI-GAN step, stage one", _aigan(1)),
    "aigan_two": ("AI-GAN step, stage two", _aigan(2)),
    "distillation": ("distillation step", _distillation),
    "pgd": ("PGD-40", _pgd_case),
}


def row(name, case, attack_step, peak, bandwidth):
    done = work(case.counted, case.args).and_times(case.turns, attack_step)
    took = median_seconds(case.step, case.args)
    by_flops, by_bytes = done.flops / peak / took, done.bytes / bandwidth / took
    return {
        "benchmark": name,
        "who": _measure.OURS,
        "seconds": took,
        "GFLOP": done.flops / 1e9,
        "GB": done.bytes / 1e9,
        "GFLOP/s": done.flops / took / 1e9,
        "of peak product": by_flops,
        "of peak copy": by_bytes,
        "of roof": max(by_flops, by_bytes),
    }


def start():
    """Set up a process as the commands do; return its machine and versions."""
    logging.set_verbosity(logging.WARNING)
    process.compute_in_caller()
    process.keep_memory()
    return _measure.environment()


def noise_batch(shape, size):
    split = _task.noise(shape, size).train
    return Batch(jnp.asarray(data.to_float(split.images)), jnp.asarray(split.labels))


def main(argv):
    del argv
    environment = start()
    size = _measure.smaller(BATCH.value, 4)
    batch = noise_batch(_shape(), size)
    target = _task.untrained(_measure.smaller("C", "small"), _shape())
    peaks = peak_flops(), copy_speed()
    environment |= dict(zip(("peak FLOP/s", "peak copy B/s"), peaks, strict=True))
    print(f"product {peaks[0] / 1e9:.1f} GFLOP/s, copy {peaks[1] / 1e9:.1f} GB/s")
    attack_step = work(_pgd(1), (batch, target))
    rows = [
        row(f"{name}, batch {size}", case(batch, target), attack_step, *peaks)
        for name, case in _measure.chosen(PARTS).values()
    ]
    figures = [
        _measure.figure(f"{r['benchmark']}: of roof", r["of roof"], "share")
        for r in rows
    ]
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
