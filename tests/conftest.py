"""Shared fixtures: real digits, a small trained classifier, the prepared MNIST."""

import os
import pathlib

import jax
import optax
import pytest

from advgan_jax import data, models, parallel
from advgan_jax.training import classifier, loop

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def digits():
    return data.load_dataset("digits")


@pytest.fixture(scope="session")
def digits_logits_fn(digits):
    """A small net with over 95 % accuracy on the test digits."""
    model = models.make_classifier("small", digits.num_classes)
    optimizer = optax.adam(2e-3)
    state = classifier.init_state(model, optimizer, jax.random.key(0), (8, 8, 1))
    run = parallel.compile_steps(
        classifier.make_train_step(model, optimizer), mode="jit"
    )
    plan = loop.Plan(len(digits.train), batch_size=64, num_epochs=6)
    state, _ = loop.fit(
        state, run, loop.on_device(digits.train), plan, order_key=jax.random.key(1)
    )
    return models.make_logits_fn(model, state.variables)


@pytest.fixture(scope="session")
def mnist():
    """Real MNIST, where it has been prepared."""
    directory = os.environ.get("TFDS_DATA_DIR")
    if not directory or not (pathlib.Path(directory) / "mnist").is_dir():
        pytest.skip("needs MNIST prepared in TFDS_DATA_DIR")
    return data.load_dataset("mnist", data_dir=directory)
