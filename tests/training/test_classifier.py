"""Test classifier training: dropout, batch statistics, augmentation, accuracy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models
from advgan_jax.data import to_float
from advgan_jax.training import classifier
from advgan_jax.types import Batch


def test_reaches_the_accuracy_of_the_digits(digits, digits_logits_fn):
    logits = digits_logits_fn(to_float(digits.test.images))
    assert np.mean(np.argmax(logits, -1) == digits.test.labels) > 0.95


def test_step_is_one_of_gradient_descent_on_the_mean_cross_entropy():
    model = models.FullyConnected(num_classes=3)
    optimizer = optax.sgd(1.0)
    images = jax.random.uniform(jax.random.key(1), (5, 2, 2, 1))
    labels = jnp.array([0, 1, 2, 0, 1])
    state = classifier.init_state(model, optimizer, jax.random.key(0), (2, 2, 1))
    step = classifier.make_train_step(model, optimizer)
    new, metrics = step(state, Batch(images, labels))

    flat = images.reshape(5, 4)
    dense = state.model.params["Dense_0"]
    probabilities = jax.nn.softmax(flat @ dense["kernel"] + dense["bias"])
    error = (probabilities - jax.nn.one_hot(labels, 3)) / 5
    moved = dense["kernel"] - new.model.params["Dense_0"]["kernel"]
    np.testing.assert_allclose(moved, flat.T @ error, atol=1e-6)
    loss = -np.mean(np.log(probabilities[np.arange(5), labels]))
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert new.step == 1


@pytest.mark.slow
def test_batch_statistics_are_state_and_move_only_in_training():
    model = models.ResNet(num_classes=3, blocks=1, widths=(4, 4, 4))
    sgd = optax.sgd(0.1)
    state = jax.jit(lambda key: classifier.init_state(model, sgd, key, (8, 8, 1)))(
        jax.random.key(0)
    )
    batch = Batch(
        jax.random.uniform(jax.random.key(1), (4, 8, 8, 1)), jnp.arange(4) % 3
    )
    new, _ = jax.jit(classifier.make_train_step(model, sgd))(state, batch)
    before, after = (jax.tree.leaves(s.batch_stats) for s in (state, new))
    assert before
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    logits_fn = jax.jit(models.make_logits_fn(model, new.variables))
    np.testing.assert_array_equal(logits_fn(batch.images), logits_fn(batch.images))


@pytest.mark.parametrize("name", ["A", "B", "C", "small"])
def test_dropout_is_off_unless_training(name):
    """The attacked model must not draw new dropout at each call."""
    model = models.make_classifier(name, 10)
    images = jax.random.uniform(jax.random.key(0), (2, 28, 28, 1))
    variables = jax.jit(model.init)(jax.random.key(1), images)

    @partial(jax.jit, static_argnums=0)
    def logits(train, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, train=train, rngs=rngs)

    np.testing.assert_array_equal(logits(False, 0), logits(False, 1))
    assert not np.array_equal(logits(True, 0), logits(True, 1))


class TestAugment:
    IMAGES = jnp.arange(1.0, 2 * 4 * 4 + 1).reshape(2, 4, 4, 1)

    def test_off(self):
        same = classifier.augment(
            self.IMAGES, jax.random.key(0), max_shift=0, flip=False
        )
        np.testing.assert_array_equal(same, self.IMAGES)

    def test_shift_moves_by_at_most_so_many_pixels(self):
        seen = set()
        for seed in range(30):
            moved = classifier.augment(
                self.IMAGES, jax.random.key(seed), max_shift=1, flip=False
            )
            # Pixel (1, 1), 6 in the first image, stays inside after every shift.
            (place,) = np.argwhere(np.asarray(moved[0, :, :, 0]) == 6)
            seen.add(tuple(place - 1))
        assert seen == {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}

    def test_flip_mirrors_columns(self):
        kinds = set()
        for seed in range(10):
            flipped = classifier.augment(
                self.IMAGES, jax.random.key(seed), max_shift=0, flip=True
            )
            mirrored = np.array_equal(flipped[0], self.IMAGES[0, :, ::-1])
            assert mirrored or np.array_equal(flipped[0], self.IMAGES[0])
            kinds.add(mirrored)
        assert kinds == {True, False}
