"""Test distillation's step: the gradient towards soft and hard answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models, parallel
from advgan_jax.data import to_float
from advgan_jax.training import classifier, distillation, fit
from advgan_jax.training.states import ClassifierState
from advgan_jax.types import Batch

MODEL = models.FullyConnected(num_classes=3)
IMAGES = jax.random.uniform(jax.random.key(1), (5, 2, 2, 1))


def fresh():
    return distillation.init_state(MODEL, optax.sgd(1.0), jax.random.key(0), (2, 2, 1))


def test_step_follows_the_gradient_of_the_cross_entropy_to_soft_answers():
    answers = jax.nn.softmax(jax.random.normal(jax.random.key(2), (5, 3)))
    state = fresh()
    step = distillation.make_train_step(MODEL, optax.sgd(1.0))
    new, metrics = step(state, Batch(IMAGES, answers))

    flat = IMAGES.reshape(5, 4)
    dense = state.model.params["Dense_0"]
    ours = jax.nn.softmax(flat @ dense["kernel"] + dense["bias"])
    moved = dense["kernel"] - new.model.params["Dense_0"]["kernel"]
    np.testing.assert_allclose(moved, flat.T @ (ours - answers) / 5, atol=1e-6)
    loss = -np.mean(np.sum(answers * np.log(ours), axis=1))
    np.testing.assert_allclose(metrics["distillation_loss"], loss, rtol=1e-5)
    same = np.mean(np.argmax(ours, 1) == np.argmax(answers, 1))
    np.testing.assert_allclose(metrics["agreement_rate"], same)
    assert isinstance(new, ClassifierState)
    assert new.step == 1


@pytest.mark.parametrize("augmentation", [{}, {"max_shift": 1, "flip": True}])
def test_hard_answers_are_labels(augmentation):
    labels = jnp.array([0, 1, 2, 0, 1])
    hard, _ = distillation.make_train_step(MODEL, optax.sgd(1.0), **augmentation)(
        fresh(), Batch(IMAGES, jax.nn.one_hot(labels, 3))
    )
    plain, _ = classifier.make_train_step(MODEL, optax.sgd(1.0), **augmentation)(
        fresh(), Batch(IMAGES, labels)
    )
    for a, b in zip(
        jax.tree.leaves(hard.model.params),
        jax.tree.leaves(plain.model.params),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_it_learns_what_it_is_told_not_what_is_true(digits, digits_logits_fn):
    """Answers that replace each class by the next one."""
    images = to_float(digits.train.images)
    answers = jnp.roll(jax.nn.softmax(digits_logits_fn(images)), 1, axis=1)
    model, optimizer = models.FullyConnected(hidden=(50,)), optax.adam(1e-2)
    state = distillation.init_state(model, optimizer, jax.random.key(0), (8, 8, 1))
    run = parallel.compile_steps(
        distillation.make_train_step(model, optimizer), mode="jit"
    )
    plan = fit.Plan(len(images), batch_size=64, num_epochs=10)
    state, _ = fit.fit(
        state, run, Batch(images, answers), plan, order_key=jax.random.key(1)
    )
    logits = models.make_logits_fn(model, state.variables)(digits.test.images)
    shifted = (digits.test.labels + 1) % 10
    assert np.mean(np.argmax(logits, 1) == shifted) > 0.9
