"""Measure attacks and trainings against models of users: Flax NNX and PyTorch.

    python benchmarks/interop.py --target_model_dir=runs/target_models

  * `training`: `train_advgan` with its defaults against a CNN of the reader on digits,
    and against the same CNN in PyTorch, through `interop.from_torch`.
  * `aigan`: `train_aigan` with its defaults against that CNN, mean over ten classes.
  * `mnist`: `train_advgan` with its defaults against model C on MNIST.
  * `pgd`: PGD-40 on model C in PyTorch, ours through `interop.from_torch`, beside
    torchattacks.
  * `large`: a training step and a generation on images of 224 by 224 by 3, and what the
    process used of memory in all.

Times of trainings include compilation. Needs `torch==2.13.0 torchattacks==3.5.1`.
"""

import resource
import time
from functools import partial

import _measure
import _rivals
import _task
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, logging
from attacks import first_correct, ours, quality
from flax import nnx

import advgan_jax
from advgan_jax import attacks, data, interop
from advgan_jax.evaluation import evaluate, evaluate_per_class, summarize_classes

_KEY = jax.random.key(0)


class CNN(nnx.Module):
    """A model as a reader would write it: two convolutions and a dense layer."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.second = nnx.Conv(32, 64, (3, 3), strides=2, rngs=rngs)
        self.last = nnx.Linear(16 * 64, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.second(nnx.relu(self.first(images))))
        return self.last(x.reshape(len(x), -1))


def trained_cnn(split):
    """Return the model after 8 epochs of Adam."""

    @nnx.jit
    def step(model, optimizer, images, labels):
        def loss(model):
            losses = optax.softmax_cross_entropy_with_integer_labels
            return losses(model(images), labels).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    model = CNN(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(2e-3), wrt=nnx.Param)
    images, labels = data.to_float(split.images), split.labels
    for _ in range(_measure.smaller(8, 1)):
        for first in range(0, 1400, 100):
            rows = slice(first, first + 100)
            step(model, optimizer, images[rows], labels[rows])
    model.eval()
    return model


def in_pytorch(model):
    """Return the same model in PyTorch, from `[B, 1, 8, 8]` to logits."""
    import torch
    from _torch_models import _fill

    class Padded(torch.nn.Module):
        """Pad below and to the right, as Flax does with strides of 2."""

        def forward(self, images):
            return torch.nn.functional.pad(images, (0, 1, 0, 1))

    first = torch.nn.Conv2d(1, 32, 3, padding=1)
    second = torch.nn.Conv2d(32, 64, 3, stride=2)
    last = torch.nn.Linear(16 * 64, 10)
    for layer, twin in ((model.first, first), (model.second, second)):
        _fill(twin, np.array(layer.kernel[...]).transpose(3, 2, 0, 1), layer.bias[...])
    # Flax flattens rows, columns, channels; in PyTorch channels come first.
    kernel = np.array(model.last.kernel[...]).reshape(4, 4, 64, 10)
    kernel = kernel.transpose(2, 0, 1, 3).reshape(-1, 10)
    _fill(last, kernel.T, model.last.bias[...])
    relu = torch.nn.ReLU
    layers = (first, relu(), Padded(), second, relu(), torch.nn.Flatten(), last)
    return torch.nn.Sequential(*layers).eval()


def training():
    """Train AdvGAN on both models in turns; the median of three trainings."""
    digits = data.load_dataset("digits")
    model = trained_cnn(digits.train)
    twin = interop.from_torch(in_pytorch(model), 10)
    shown = data.to_float(digits.test.images)
    # The same sums in another order, relative to logits of about 10.
    np.testing.assert_allclose(twin(shown), model(jnp.asarray(shown)), atol=1e-3)

    def train(logits_fn):
        options = {"epsilon": 0.3, "key": _KEY, "progress": False}
        if _measure.SMOKE.value:
            options["num_epochs"] = 1
        return advgan_jax.train_advgan(logits_fn, digits.train, **options)

    thunks = {"NNX model": partial(train, model), "PyTorch model": partial(train, twin)}
    # Without a round for warm-up: a user's first training compiles.
    seconds, found = _measure.in_turns(thunks, _measure.smaller(3, 1), warm_up=False)
    rows = []
    for who, logits_fn in zip(thunks, (model, twin), strict=True):
        result = evaluate(logits_fn, found[who], digits.test.images, digits.test.labels)
        row = {"benchmark": "train AdvGAN, digits", "who": who}
        row |= {"seconds": seconds[who], "success": result.success().rate}
        rows.append(row | {"times ours": seconds[who] / seconds["NNX model"]})
    return rows


def aigan():
    """Train AI-GAN with its defaults."""
    digits = data.load_dataset("digits")
    model, test = trained_cnn(digits.train), digits.test
    options = {"num_epochs": (1, 1)} if _measure.SMOKE.value else {}
    start = time.perf_counter()
    generator = advgan_jax.train_aigan(
        model, digits.train, epsilon=0.3, key=_KEY, progress=False, **options
    )
    seconds = time.perf_counter() - start
    shown = (model, generator, test.images, test.labels, range(10))
    success = summarize_classes(evaluate_per_class(*shown))["success_mean"]
    row = {"benchmark": "train AI-GAN, digits", "who": _measure.OURS}
    return [row | {"seconds": seconds, "success": float(success)}]


def mnist():
    """Train AdvGAN with its defaults on MNIST."""
    dataset, target = _task.mnist_model_c()
    start = time.perf_counter()
    generator = advgan_jax.train_advgan(target, dataset.train, epsilon=0.3, key=_KEY)
    seconds = time.perf_counter() - start
    result = evaluate(target, generator, dataset.test.images, dataset.test.labels)
    row = {"benchmark": "train AdvGAN, MNIST, model C", "who": _measure.OURS}
    return [row | {"seconds": seconds, "success": result.success().rate}]


def pgd():
    """Attack a PyTorch model by PGD-40, ours and torchattacks' in turns."""
    from _torch_models import torch_model

    dataset, target = _task.mnist_model_c()
    images, labels = first_correct(target, dataset.test, 100)
    module = torch_model(target.args[0])
    wrapped = interop.from_torch(module, 10)
    steps = {"num_steps": 40, "step_size": 0.025, "epsilon": 0.3, "key": _KEY}
    theirs = {"eps": 0.3, "alpha": 0.025, "steps": 40}
    thunks = {
        _measure.OURS: ours(attacks.pgd, wrapped, images, labels, **steps),
        "torchattacks": _rivals.torch_attack(
            module, lambda ta, model: ta.PGD(model, **theirs), images, labels
        ),
    }
    seconds, found = _measure.in_turns(thunks, _measure.repeats())
    rows = []
    for who, took in seconds.items():
        success, l2 = quality(target, images, labels, found[who])
        row = {"benchmark": "PGD-40 on a PyTorch model", "who": who, "seconds": took}
        row |= {"success": success, "mean L2": l2}
        rows.append(row | {"times ours": took / seconds[_measure.OURS]})
    return rows


def large():
    """Time steps and generations of large images; a new batch compiles nothing."""
    side, count = _measure.smaller(224, 32), _measure.smaller(128, 16)
    shape = (side, side, 3)
    noise = _task.noise(shape, count)
    target, moments = _task.untrained("small", shape), []
    generator = advgan_jax.train_advgan(
        target,
        noise.train,
        epsilon=8 / 255,
        key=_KEY,
        num_epochs=3,
        batch_size=8,
        progress=False,
        callback=lambda step, _: moments.append((step, time.perf_counter())),
    )
    shown = jnp.asarray(data.to_float(noise.train.images[:8]))
    generate = lambda: jax.block_until_ready(generator.perturb(shown))  # noqa: E731
    seconds, _ = _measure.in_turns({"it": generate}, _measure.repeats())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows = [{"benchmark": f"generate 8 images of {side}", "seconds": seconds["it"]}]
    steps, times = np.diff(np.array(moments), axis=0).T  # a call may run many steps
    step = float(np.median(times / steps))
    rows.append({"benchmark": f"training step, 8 images of {side}", "seconds": step})
    return [row | {"who": _measure.OURS, "peak GiB": peak} for row in rows]


PARTS = {
    "training": training,
    "aigan": aigan,
    "mnist": mnist,
    "pgd": pgd,
    "large": large,
}


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment, rows = _measure.environment(), []
    for part in _measure.chosen(PARTS).values():
        rows += part()
        print(_measure.table(rows[-1:]).splitlines()[1], flush=True)
    _measure.report(environment, rows, _measure.versus(rows))


if __name__ == "__main__":
    app.run(main)
