"""The classifier that all benchmarks attack, data sets of noise, and our networks."""

import pathlib
import tempfile

import _measure
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from advgan_jax import data, models, runs, zoo
from advgan_jax.configs import target_model
from advgan_jax.data import Dataset, Split
from advgan_jax.training import advgan

TARGET_DIR = flags.DEFINE_string(
    "target_model_dir",
    "zoo:target/mnist-c",
    "A model C of the zoo, or a folder of trained target models, where it is trained "
    "if it is missing.",
)

EPSILON = 0.3
MNIST = (28, 28, 1)


def mnist_model_c():
    """Return MNIST and a trained model C; with `--smoke`, noise and an untrained C."""
    if _measure.SMOKE.value:
        return noise(MNIST, 256), untrained("C", MNIST)
    dataset = data.load_dataset("mnist")
    if TARGET_DIR.value.startswith("zoo:"):
        return dataset, zoo.load(TARGET_DIR.value.removeprefix("zoo:"))
    config = target_model.get_config("mnist")
    config.target_model_dir = str(pathlib.Path(TARGET_DIR.value).absolute())
    with tempfile.TemporaryDirectory() as workdir:
        run = runs.Run(config, pathlib.Path(workdir), dataset)
        return dataset, runs.methods.target_model.trained_logits_fn(run)


def save_task(path):
    """Save MNIST and model C to one file, so that children import one library only."""
    dataset, target = mnist_model_c()
    params = jax.device_get(target.args[0]["params"])
    arrays = {
        f"{layer}/{name}": leaf
        for layer, leaves in params.items()
        for name, leaf in leaves.items()
    }
    test = dataset.test.take(_measure.smaller(1000, 32))
    for name, split in {"train": dataset.train, "test": test}.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = split.images, split.labels
    np.savez(path, **arrays)


def save_noise(path, shape):
    """Save images of noise to a file as `save_task` does, without a model."""
    train = noise(shape, _measure.smaller(1024, 32)).train
    np.savez(path, train_images=train.images, train_labels=train.labels)


def noise(shape, count, num_classes=10):
    """Return a data set of random pixels; run time does not depend on pixels."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, *shape)).astype(np.uint8)
    labels = draw.integers(0, num_classes, count).astype(np.int32)
    split = Split(images, labels)
    return Dataset("noise", split, split, num_classes)


def untrained(name, shape, num_classes=10):
    model = models.make_classifier(name, num_classes)
    images = jnp.zeros((1, *shape))
    return models.make_logits_fn(model, model.init(jax.random.key(0), images))


def networks(widths=(8, 16, 32)):
    """Return AdvGAN's networks, with the optimisers of the rivals."""
    return advgan.Networks(
        generator(widths),
        models.Discriminator(widths=_measure.smaller((8, 16, 32), (2, 2))),
        optax.adam(1e-3, b1=0.5),
        optax.adam(1e-3, b1=0.5),
    )


def generator(widths=(8, 16, 32)):
    if _measure.SMOKE.value:
        return models.Generator(EPSILON, widths=(2, 2, 2), num_residual=0)
    return models.Generator(EPSILON, widths=widths)
