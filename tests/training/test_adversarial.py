"""Test adversarial training: losses, attacked models and bounds, by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models
from advgan_jax.attacks import make_attack
from advgan_jax.training import adversarial, classifier
from advgan_jax.training.adversarial import Crafting
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
    """Replace an attack by images that differ clearly from clean ones."""
    del logits_fn, labels
    return 1 - images


def gradient(state, images, labels):
    def loss(params):
        logits = MODEL.apply({"params": params}, images)
        logs = jax.nn.log_softmax(logits)
        return -jnp.mean(logs[jnp.arange(len(labels)), labels])

    return jax.grad(loss)(state.model.params)


def moved(step, state, *arguments):
    new, metrics = step(state, *arguments)
    difference = jax.tree.map(jnp.subtract, state.model.params, new.model.params)
    return difference, metrics


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_step_descends_on_the_weighted_losses(state, batch, weight):
    step = adversarial.make_adversarial_step(
        MODEL, SGD, Crafting(flipped), clean_weight=weight
    )
    difference, metrics = moved(step, state, batch)
    clean = gradient(state, batch.images, batch.labels)
    attacked = gradient(state, 1 - batch.images, batch.labels)
    wanted = jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, clean, attacked)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), difference, wanted)
    assert ("accuracy" in metrics) == (weight > 0)


def test_attack_sees_the_net_as_it_is_evaluated(batch):
    """Attack the true classes with the weights of this step, without dropout."""
    model = models.FullyConnected(num_classes=3, hidden=(8,), dropout=0.5)
    state = classifier.init_state(model, SGD, jax.random.key(0), SHAPE)
    seen = {}

    def attack(logits_fn, images, labels, **_):
        seen.update(logits=logits_fn(images), labels=labels)
        return images

    adversarial.make_adversarial_step(model, SGD, Crafting(attack))(state, batch)
    logits = model.apply(state.variables, batch.images)
    np.testing.assert_array_equal(seen["logits"], logits)
    np.testing.assert_array_equal(seen["labels"], batch.labels)


def test_predicted_labels_leave_the_class_to_the_attack(state, batch):
    seen = []

    def attack(logits_fn, images, labels, **_):
        seen.append(labels)
        return images

    crafting = Crafting(attack, predicted_labels=True)
    adversarial.make_adversarial_step(MODEL, SGD, crafting)(state, batch)
    assert seen == [None]


def test_bound_grows_and_then_stays(state, batch):
    seen = []

    def attack(logits_fn, images, labels, *, epsilon, **_):
        seen.append(float(epsilon))
        return images

    crafting = Crafting(attack, epsilon_fn=adversarial.warm_up_epsilon(0.4, 4))
    step = adversarial.make_adversarial_step(MODEL, SGD, crafting)
    for _ in range(6):
        state, _ = step(state, batch)
    np.testing.assert_allclose(seen, [0, 0.1, 0.2, 0.3, 0.4, 0.4], rtol=1e-6)


def test_attack_of_the_registry_starts_from_a_bound_of_zero(state, batch):
    pgd = make_attack("pgd", epsilon=0.3, num_steps=3)
    crafting = Crafting(pgd, epsilon_fn=adversarial.warm_up_epsilon(0.3, 4))
    step = jax.jit(
        adversarial.make_adversarial_step(MODEL, SGD, crafting, clean_weight=0.0)
    )
    difference, _ = moved(step, state, batch)
    wanted = gradient(state, batch.images, batch.labels)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), difference, wanted)
    later, _ = moved(step, state.replace(step=state.step + 4), batch)
    assert not np.allclose(
        later["Dense_0"]["kernel"], wanted["Dense_0"]["kernel"], atol=1e-3
    )


def test_each_step_draws_its_own_noise(state, batch):
    seen = []

    def attack(logits_fn, images, labels, *, key, **_):
        seen.append(jax.random.key_data(key))
        return images

    step = adversarial.make_adversarial_step(MODEL, SGD, Crafting(attack))
    once = state.replace(step=state.step + 1)
    for start in (state, state, once):
        step(start, batch)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


class TestEnsemble:
    @staticmethod
    def source(value, images):
        return jnp.full((images.shape[0], 3), value)

    def test_every_member_is_drawn_and_the_net_itself_is_one(self, state, batch):
        sources = tuple(
            jax.tree_util.Partial(self.source, jnp.float32(v)) for v in (10.0, 20.0)
        )

        def attack(logits_fn, images, labels, **_):
            # The returned images reveal the arguments.
            return images * 0 + jnp.round(jnp.abs(logits_fn(images)).max() / 10) / 2

        seen = set()
        step = jax.jit(
            adversarial.make_adversarial_step(
                MODEL, SGD, Crafting(attack), clean_weight=0.0
            )
        )
        for number in range(30):
            start = state.replace(step=jnp.asarray(number, jnp.int32))
            difference, _ = moved(step, start, batch, sources)
            for value in (0.0, 0.5, 1.0):
                wanted = gradient(state, batch.images * 0 + value, batch.labels)
                kernel = wanted["Dense_0"]["kernel"]
                if np.allclose(difference["Dense_0"]["kernel"], kernel, atol=1e-6):
                    seen.add(value)
        assert seen == {0.0, 0.5, 1.0}

    def test_shards_share_the_draw_but_not_the_noise(self, state, batch):
        sources = (jax.tree_util.Partial(self.source, jnp.float32(10.0)),)
        keys, seen = [], set()

        def attack(logits_fn, images, labels, *, key, **_):
            jax.debug.callback(
                lambda k: keys.append(tuple(map(int, k))), jax.random.key_data(key)
            )
            return images * 0 + (logits_fn(images)[0, 0] == 10.0)

        step = adversarial.make_adversarial_step(
            MODEL, SGD, Crafting(attack), clean_weight=0
        )
        halves = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), batch)
        sharded = jax.vmap(
            partial(step, axis_name="b"), (None, 0, None), axis_name="b", out_axes=None
        )
        for number in range(6):
            start = state.replace(step=jnp.asarray(number, jnp.int32))
            difference, _ = moved(sharded, start, halves, sources)
            for value in (0.0, 1.0):
                wanted = gradient(state, batch.images * 0 + value, batch.labels)
                kernel = wanted["Dense_0"]["kernel"]
                if np.allclose(difference["Dense_0"]["kernel"], kernel, atol=1e-6):
                    seen.add((number, value))
        jax.effects_barrier()
        assert len(seen) == 6  # the gradient of a mixed draw would be neither
        assert len({value for _, value in seen}) == 2
        assert len(set(keys)) == 12


def test_shards_make_the_step_of_the_whole_batch(state, batch):
    crafting = Crafting(make_attack("fgsm", epsilon=0.1))
    step = adversarial.make_adversarial_step(MODEL, SGD, crafting)
    whole, _ = step(state, batch)
    halves = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), batch)
    sharded, _ = jax.vmap(
        partial(step, axis_name="b"), (None, 0), axis_name="b", out_axes=None
    )(state.replace(key=state.key), halves)
    jax.tree.map(
        partial(np.testing.assert_allclose, atol=1e-6),
        whole.model.params,
        sharded.model.params,
    )


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_weight_out_of_range_is_refused(weight):
    with pytest.raises(ValueError, match=r"`clean_weight` must be in \[0, 1\]"):
        adversarial.make_adversarial_step(
            MODEL, SGD, Crafting(flipped), clean_weight=weight
        )


def test_step_descends_on_cross_entropy_and_divergence(state, batch):
    step = adversarial.make_trades_step(
        MODEL, SGD, Crafting(flipped), divergence_weight=2.0
    )
    difference, metrics = moved(step, state, batch)

    def loss(params):
        logs = [
            jax.nn.log_softmax(MODEL.apply({"params": params}, x))
            for x in (batch.images, 1 - batch.images)
        ]
        kl = jnp.sum(jnp.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)
        return jnp.mean(2 * kl - logs[0][jnp.arange(6), batch.labels])

    value, wanted = jax.value_and_grad(loss)(state.model.params)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), difference, wanted)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)


def test_attack_moves_the_answer_as_far_as_it_can(state, batch):
    """The divergence has several maxima; one of the starts finds the highest."""
    logits_fn = models.make_logits_fn(MODEL, state.variables)
    away = adversarial.divergence_logits_fn(logits_fn, batch.images)
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
        adversarial.make_trades_step(
            MODEL, SGD, Crafting(flipped), divergence_weight=-1.0
        )
