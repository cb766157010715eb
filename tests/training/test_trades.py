"""TRADES: its loss by hand, and an attack that moves the answer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models
from advgan_jax.attacks import make_attack
from advgan_jax.training import classifier, trades
from advgan_jax.training.defences import Crafting
from advgan_jax.types import Batch

SHAPE = (2, 2, 1)
MODEL = models.FullyConnected(num_classes=3)
SGD = optax.sgd(1.0)


@pytest.fixture
def batch():
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    return Batch(images, jnp.arange(6) % 3)


@pytest.fixture
def state():
    return classifier.init_state(MODEL, SGD, jax.random.key(0), SHAPE)


def flipped(logits_fn, images, labels, **_):
    """In the place of an attack: easy to tell from clean images."""
    del logits_fn, labels
    return 1 - images


def moved(step, state, *arguments):
    new, metrics = step(state, *arguments)
    difference = jax.tree.map(jnp.subtract, state.net.params, new.net.params)
    return difference, metrics


def test_step_descends_on_cross_entropy_and_divergence(state, batch):
    step = trades.make_trades_step(MODEL, SGD, Crafting(flipped), divergence_weight=2.0)
    difference, metrics = moved(step, state, batch)

    def loss(params):
        logs = [
            jax.nn.log_softmax(MODEL.apply({"params": params}, x))
            for x in (batch.images, 1 - batch.images)
        ]
        kl = jnp.sum(jnp.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)
        return jnp.mean(2 * kl - logs[0][jnp.arange(6), batch.labels])

    value, wanted = jax.value_and_grad(loss)(state.net.params)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), difference, wanted)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)


def test_attack_moves_the_answer_as_far_as_it_can(state, batch):
    """The divergence has several summits; from one of the starts the highest."""
    logits_fn = models.make_logits_fn(MODEL, state.variables)
    away = trades.diverging(logits_fn, batch.images)
    pgd = make_attack("pgd", epsilon=0.2, num_steps=20)
    labels = jnp.zeros_like(batch.labels)
    found = [pgd(away, batch.images, labels, key=jax.random.key(k)) for k in range(5)]

    def divergence(x):
        logs = [jax.nn.log_softmax(logits_fn(i)) for i in (batch.images, x)]
        return np.sum(np.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)

    noise = jax.random.uniform(
        jax.random.key(1), (50, *batch.images.shape), minval=-0.2, maxval=0.2
    )
    drawn = [divergence(jnp.clip(batch.images + n, 0, 1)) for n in noise]
    reached = np.max([divergence(x) for x in found], axis=0)
    assert (reached >= np.max(drawn, axis=0)).all()


def test_negative_divergence_weight_is_refused():
    with pytest.raises(ValueError, match="`divergence_weight` must be at least 0"):
        trades.make_trades_step(MODEL, SGD, Crafting(flipped), divergence_weight=-1.0)
