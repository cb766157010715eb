"""Tiny generators with fresh weights, which perturb by little but not by zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import models
from advgan_jax.generators import TrainedGenerator, TrainedOn

SHAPE = (6, 9, 2)  # sides that strides do not divide, and neither grey nor colour


@pytest.fixture(scope="session")
def make_generator():
    """Make an AdvGAN's generator, or an AI-GAN's, with other fields."""

    def make(conditional=False, seed=0, **changes):
        module = models.Generator(0.3, (4, 4, 4), 1)
        inputs = [jnp.zeros((1, *SHAPE))]
        if conditional:
            module = models.ConditionalGenerator(0.3, 5, (4, 4, 4), 1)
            inputs.append(jnp.zeros(1, jnp.int32))
        params = module.init(jax.random.key(seed), *inputs)["params"]
        if conditional:  # fresh weights are the same for all classes
            shift = params["ConditionalNorm_0"]["shift"]
            shift["embedding"] += jnp.arange(5.0)[:, None]
        fields = {
            "epsilon": 0.3,
            "image_shape": SHAPE,
            "num_classes": 5,
            "conditional": conditional,
            "trained_on": TrainedOn("a model", 0.75, seed, {"jax": "1"}),
        }
        return TrainedGenerator(module, params, **{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def images():
    return np.asarray(jax.random.uniform(jax.random.key(5), (3, *SHAPE)))
