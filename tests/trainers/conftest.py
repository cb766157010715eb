"""A small task that a trainer learns in seconds, in more than one kind of pixels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

SHAPE = (5, 7, 2)  # neither even, nor square, nor grey, nor colour


class OwnGenerator(nn.Module):
    @nn.compact
    def __call__(self, images, *classes):
        x = nn.Dense(images.shape[-1])(images)
        for ids in classes:
            x += nn.Embed(3, images.shape[-1])(ids)[:, None, None]
        return 0.2 * jnp.tanh(x)


class OwnDiscriminator(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(1)(images.reshape(len(images), -1))[:, 0]


def linear(weights, images):
    return 8 * (images.reshape(len(images), -1) - 0.5) @ weights


@pytest.fixture(scope="session")
def model():
    """A linear model of three classes, of pixels in [0, 1]."""
    return Partial(linear, jax.random.normal(jax.random.key(1), (70, 3)))


@pytest.fixture(scope="session")
def images():
    return np.asarray(jax.random.uniform(jax.random.key(2), (24, *SHAPE)), np.float32)


@pytest.fixture(scope="session")
def labels(model, images):
    return np.asarray(jnp.argmax(model(images), axis=-1))


@pytest.fixture(scope="session")
def tiny():
    """Networks that compile fast; with SGD, because Adam magnifies rounding."""
    return {
        "generator": OwnGenerator(),
        "discriminator": OwnDiscriminator(),
        "generator_optimizer": optax.sgd(5e-3),
        "discriminator_optimizer": optax.sgd(5e-3),
        "batch_size": 8,
        "num_epochs": 2,
        "progress": False,
    }
