"""Training and generation beside PyTorch: images per second of the same networks.

    python benchmarks/training.py --target_dir=runs/targets

MNIST, batches of 128, two kinds of step: AdvGAN's (one update of the discriminator and
one of the generator against model C), and model C's own. Then 1,000 and 10,000
adversarial images from a generator. Rivals take turns; each turn makes `--steps` steps;
medians of `--repeats` turns after one to warm up. Both use all cores. Needs

    python -m pip install torch==2.13.0
"""

import itertools

import _measure
import _rivals
import _targets
import _torch_advgan
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from absl import app, flags, logging

from advgan_jax import attacks, data, models, parallel
from advgan_jax.training import advgan, classifier, loop

_ONLY = flags.DEFINE_list("only", None, "Names of the benchmarks to run.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed turns, after one to warm up.")
_STEPS = flags.DEFINE_integer("steps", 20, "Steps in a turn.")
_OUT = flags.DEFINE_string(
    "out", "benchmarks/results/training-cpu.json", "Where the figures go."
)

BATCH = 128
EPSILON = 0.3


def _rows(name, images, thunks):
    """A row for each rival; the first is ours."""
    seconds, _ = _measure.in_turns(thunks, _REPEATS.value)
    ours = next(iter(seconds.values()))
    return [
        {
            "benchmark": name,
            "who": who,
            "ms": 1e3 * took,
            "images/s": images / took,
            "times ours": took / ours,
        }
        for who, took in seconds.items()
    ]


def _batches(split):
    """Rows of the split, `[1, B]` a step, for ever."""
    order = np.arange(len(split) // BATCH * BATCH).reshape(-1, 1, BATCH)
    return itertools.cycle(order)


def _torch_batches(split):
    images = _rivals.to_torch(data.to_float(split.images[: 50 * BATCH]))
    labels = torch.tensor(split.labels[: 50 * BATCH].astype(np.int64))
    return itertools.cycle(zip(images.split(BATCH), labels.split(BATCH), strict=True))


def _ours(step, state, split, frozen=()):
    """A thunk that makes steps from wherever the last call ended."""
    run, on_device = parallel.compile_steps(step, mode="jit"), loop.on_device(split)
    batches, held = _batches(split), [state]

    def steps():
        for rows in itertools.islice(batches, _STEPS.value):
            held[0], metrics = run(held[0], on_device, rows, *frozen)
        return jax.block_until_ready(metrics)

    return steps


def _theirs(step, split):
    batches = _torch_batches(split)

    def steps():
        for images, labels in itertools.islice(batches, _STEPS.value):
            step(images, labels)

    return steps


def _networks():
    return advgan.Networks(
        models.Generator(epsilon=EPSILON),
        models.Discriminator(),
        optax.adam(1e-3, b1=0.5),
        optax.adam(1e-3, b1=0.5),
    )


def advgan_step(dataset, target):
    """The alternating step against model C."""
    networks = _networks()
    state = advgan.init_state(networks, jax.random.key(0), (28, 28, 1))
    step = advgan.make_train_step(networks, advgan.Objective(EPSILON))
    trainer = _torch_advgan.Trainer(_rivals.torch_model(target.args[0]), EPSILON)
    thunks = {
        "advgan_jax": _ours(step, state, dataset.train, (target,)),
        "PyTorch": _theirs(trainer.step, dataset.train),
    }
    return _rows("AdvGAN step, batch 128", BATCH * _STEPS.value, thunks)


def classifier_step(dataset, target):
    """Model C's training step, with Adam and its dropout."""
    model, optimizer = models.make_classifier("C", 10), optax.adam(1e-3)
    state = classifier.init_state(model, optimizer, jax.random.key(0), (28, 28, 1))
    net = _rivals.torch_model(target.args[0], dropout=0.5).train()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    thunks = {
        "advgan_jax": _ours(
            classifier.make_train_step(model, optimizer), state, dataset.train
        ),
        "PyTorch": _theirs(
            lambda images, labels: _torch_advgan.classifier_step(
                net, adam, images, labels
            ),
            dataset.train,
        ),
    }
    return _rows("model C step, batch 128", BATCH * _STEPS.value, thunks)


def generation(dataset, target):
    """Adversarial images from a generator, warm; the labels are not looked at."""
    networks = _networks()
    state = advgan.init_state(networks, jax.random.key(0), (28, 28, 1))
    attack = attacks.generator_attack(
        advgan.make_generator_fn(networks.generator),
        state.generator.params,
        epsilon=EPSILON,
    )
    trainer = _torch_advgan.Trainer(_rivals.torch_model(target.args[0]), EPSILON)
    rows = []
    for count in (1000, 10_000):
        images = jnp.asarray(data.to_float(dataset.test.images[:count]))
        labels = jnp.asarray(dataset.test.labels[:count])
        theirs = _rivals.to_torch(np.asarray(images))

        def ours(images=images, labels=labels):
            return jax.block_until_ready(attack(target, images, labels))

        @torch.no_grad()
        def generate(images=theirs):
            return trainer.perturb(images)

        thunks = {"advgan_jax": ours, "PyTorch": generate}
        rows += _rows(f"generate {count} images", count, thunks)
    return rows


BENCHMARKS = {
    "advgan_step": advgan_step,
    "classifier_step": classifier_step,
    "generation": generation,
}


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment(("jax", "flax", "numpy", "torch"))
    dataset, target = _targets.mnist_model_c()
    rows = []
    for name in _ONLY.value or BENCHMARKS:
        rows += BENCHMARKS[name](dataset, target)
        print(_measure.table(rows), flush=True)
    _measure.write(_OUT.value, environment, rows)


if __name__ == "__main__":
    app.run(main)
