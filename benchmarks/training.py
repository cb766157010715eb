"""Training beside PyTorch: images per second of the same networks.

    python benchmarks/training.py --target_dir=runs/targets

MNIST, batches of 128 (or `--batches`), two kinds of step: AdvGAN's (one update of the
discriminator and one of the generator against model C), and model C's own. Rivals take
turns; each turn makes `--steps` steps; medians of `--repeats` turns after one to warm
up. Both use all cores. Needs

    python -m pip install torch==2.13.0

unless `--rivals=` leaves PyTorch out.
"""

import itertools

import _measure
import _targets
import jax
import numpy as np
import optax
from absl import app, flags, logging

from advgan_jax import data, models, parallel
from advgan_jax.training import advgan, classifier, loop

_STEPS = flags.DEFINE_integer("steps", 20, "Steps in a turn, at least.")
_BATCHES = flags.DEFINE_list("batches", ["128"], "Batch sizes.")


def _num_steps():
    """Steps in a turn: whole calls, for what is counted must be made."""
    per_call = parallel.default_steps_per_call()
    wanted = _measure.smaller(_STEPS.value, 2)
    return -(-wanted // per_call) * per_call


def _batches(split, size):
    """Rows of the split, `[1, B]` a step, for ever; some twice, if it has too few."""
    whole = -(-len(split) // size) * size
    return itertools.cycle(np.resize(np.arange(len(split)), (whole // size, 1, size)))


def _ours(step, state, split, size, frozen=()):
    """A thunk that makes steps from wherever the last call ended."""
    run, on_device = parallel.compile_steps(step, mode="jit"), loop.on_device(split)
    per_call = parallel.default_steps_per_call()
    rows, held = _batches(split, size), [state]

    def steps():
        for _ in range(_num_steps() // per_call):
            call = np.concatenate(list(itertools.islice(rows, per_call)))
            held[0], metrics = run(held[0], on_device, call, *frozen)
        return jax.block_until_ready(metrics)

    return steps


def _theirs(step, split, size):
    import torch
    from _torch_nets import to_torch

    images = to_torch(data.to_float(split.images[: 50 * size]))
    labels = torch.tensor(split.labels[: 50 * size].astype(np.int64))
    pairs = zip(images.split(size), labels.split(size), strict=True)
    batches = itertools.cycle([p for p in pairs if len(p[0]) == size])

    def steps():
        for batch in itertools.islice(batches, _num_steps()):
            step(*batch)

    return steps


def advgan_step(dataset, target, size):
    """The alternating step against model C."""
    networks = _targets.networks()
    state = advgan.init_state(networks, jax.random.key(0), _targets.MNIST)
    step = advgan.make_train_step(networks, advgan.Objective(_targets.EPSILON))
    thunks = {_measure.OURS: _ours(step, state, dataset.train, size, (target,))}
    if "pytorch" in _measure.RIVALS.value:
        from _torch_advgan import Trainer
        from _torch_nets import torch_model

        trainer = Trainer(torch_model(target.args[0]), _targets.EPSILON)
        thunks["PyTorch"] = _theirs(trainer.step, dataset.train, size)
    return _measure.compare(f"AdvGAN step, batch {size}", thunks, size * _num_steps())


def classifier_step(dataset, target, size):
    """Model C's training step, with Adam and its dropout."""
    model, optimizer = models.make_classifier("C", 10), optax.adam(1e-3)
    state = classifier.init_state(model, optimizer, jax.random.key(0), _targets.MNIST)
    step = classifier.make_train_step(model, optimizer)
    thunks = {_measure.OURS: _ours(step, state, dataset.train, size)}
    if "pytorch" in _measure.RIVALS.value:
        thunks["PyTorch"] = _theirs(_torch_classifier_step(target), dataset.train, size)
    return _measure.compare(f"model C step, batch {size}", thunks, size * _num_steps())


def _torch_classifier_step(target):
    import torch
    from _torch_advgan import classifier_step
    from _torch_nets import torch_model

    net = torch_model(target.args[0], dropout=0.5).train()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    return lambda images, labels: classifier_step(net, adam, images, labels)


PARTS = {"advgan_step": advgan_step, "classifier_step": classifier_step}


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    dataset, target = _targets.mnist_model_c()
    rows = [
        row
        for part in _measure.chosen(PARTS).values()
        for size in map(int, _measure.smaller(_BATCHES.value, ("4",)))
        for row in part(dataset, target, size)
    ]
    _measure.report(environment, rows, _measure.versus(rows, "images/s"))


if __name__ == "__main__":
    app.run(main)
