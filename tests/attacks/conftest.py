"""Small models whose attacks compile in a second, or have known answers."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

SHAPE = (5, 7, 2)  # neither square nor a power of two


def _net(params, images):
    hidden = jnp.tanh(images.reshape(images.shape[0], -1) @ params["first"])
    return hidden @ params["second"] + params["bias"]


def _linear(params, images):
    return images.reshape(images.shape[0], -1) @ params["w"] + params["b"]


@pytest.fixture(scope="module")
def quick_compile():
    """Half the time to compile, for tests that compile much and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def net():
    """A net with one hidden layer and random weights, 5 classes."""
    first, second, bias = jax.random.split(jax.random.key(3), 3)
    params = {
        "first": jax.random.normal(first, (70, 16)) / 4,
        "second": jax.random.normal(second, (16, 5)),
        "bias": jax.random.normal(bias, (5,)) - 4,
    }
    return Partial(_net, params)


@pytest.fixture(scope="session")
def images():
    """Three images, some of whose pixels are exactly 0 or 1."""
    values = jax.random.uniform(jax.random.key(5), (3, *SHAPE), minval=-0.2, maxval=1.2)
    return jnp.clip(values, 0, 1)


@pytest.fixture(scope="session")
def labels(net, images):
    return jnp.argmax(net(images), axis=-1)


@pytest.fixture(scope="session")
def wanted(net, images):
    """The second most likely classes."""
    return jnp.argsort(net(images), axis=-1)[:, -2]


@pytest.fixture(scope="session")
def make_linear():
    """A linear model of unit-size weights, and images in the middle of the box."""

    def make(num_images, shape=SHAPE, num_classes=4, seed=0):
        rng = np.random.default_rng(seed)
        num_pixels = int(np.prod(shape))
        weights = rng.normal(size=(num_pixels, num_classes)).astype(np.float32)
        images = rng.uniform(0.4, 0.6, (num_images, *shape)).astype(np.float32)
        params = {"w": jnp.asarray(weights), "b": jnp.zeros(num_classes)}
        model = Partial(_linear, params)
        images = jnp.asarray(images)
        return model, images, jnp.argmax(model(images), axis=-1)

    return make


@pytest.fixture
def scipy_lbfgs(repository, monkeypatch):
    """Szegedy's attack by SciPy, the reference that the benchmarks use as well."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("_scipy_lbfgs")
