"""Which images are queried: the uncertainty of a model, and rounds that use it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models
from advgan_jax.oracles import Oracle
from advgan_jax.training import advgan, blackbox

P = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])


def test_uncertainty_of_known_probabilities():
    logits = jnp.log(P)
    margins = blackbox.uncertainty(logits, "margin")
    np.testing.assert_allclose(margins, [-0.5, 0, -1, -0.1], atol=1e-6)
    entropies = [-(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1))]
    entropies += [np.log(2), 0, -(0.4 * np.log(0.4) + 0.6 * np.log(0.3))]
    found = blackbox.uncertainty(logits, "entropy")
    np.testing.assert_allclose(found, entropies, atol=1e-6)
    assert blackbox.most_uncertain(logits, 3, "margin").tolist() == [1, 3, 0]
    assert blackbox.most_uncertain(logits, 2, "entropy").tolist() == [3, 0]
    with pytest.raises(ValueError, match=r"uncertainty 'random'.*entropy, margin"):
        blackbox.uncertainty(logits, "random")


@pytest.mark.slow
def test_a_round_queries_the_images_that_f_is_the_least_certain_about():
    images = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)
    weights = np.random.default_rng(1).normal(size=(64, 3))
    attacker = blackbox.Attacker(
        advgan.Networks(
            models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=0),
            models.Discriminator(widths=(4,)),
            optax.adam(1e-2),
            optax.adam(1e-3),
        ),
        advgan.AdvGANObjective(epsilon=0.3),
        models.FullyConnected(num_classes=3),
        optax.adam(1e-2),
    )
    schedule = blackbox.Schedule(
        *(2, 3, 2, 2, 20, 6),
        generator_batch_size=8,
        distilled_batch_size=8,
        choice="margin",
    )
    state = blackbox.init_state(attacker, schedule, jax.random.key(0), (8, 8, 1))
    oracle = Oracle(
        lambda x: x.reshape(-1, 64) @ weights, answers="logits", num_classes=3
    )
    wanted = []

    def record(state, number):
        if number == 1:
            moved = blackbox.perturb_images(attacker, state, images)
            logits = blackbox.distilled_logits_fn(attacker, state)(moved)
            order = np.argsort(-blackbox.uncertainty(logits, "margin"), stable=True)
            wanted.extend(moved[order[:6]])

    blackbox.fit(
        state, oracle, images, None, attacker, schedule, mode="jit", record=record
    )
    queried = oracle.ledger.made()[0]
    np.testing.assert_array_equal(queried[20:], wanted)
    assert {one.tobytes() for one in queried[:20]} <= {x.tobytes() for x in images}


def test_wrong_choices():
    fields = (2, 3, 2, 2, 20, 6)
    with pytest.raises(ValueError, match=r"choice of queries 'best'.*Known: entropy"):
        blackbox.Schedule(*fields, choice="best")
    with pytest.raises(ValueError, match="must be 'random' in static distillation"):
        blackbox.Schedule(*fields, choice="margin", dynamic=False)
