"""Attacks leave points where the gradient is zero or not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks

pytestmark = pytest.mark.usefixtures("quick_compile")

WITHOUT_GRADIENT = {"advgan", "aigan", *attacks.QUERY_ATTACKS}
BALL = {"epsilon": 0.6}
START = {**BALL, "random_start": False, "num_steps": 5}
HYPERPARAMETERS = {
    "apgd": START,
    "apgd_targeted": {**START, "loss": "margin"},
    "bim": {**BALL, "num_steps": 5},
    "carlini_wagner_l2": {"num_search_steps": 4, "num_steps": 100},
    "carlini_wagner_linf": {"num_steps": 50, "learning_rate": 0.05},
    "ddn": {"num_steps": 20},
    "deepfool": {"num_steps": 20},
    "ead": {"num_search_steps": 4, "num_steps": 100, "initial_loss_weight": 1.0},
    "fab": {"num_steps": 20},
    "fab_targeted": {"num_steps": 20},
    "fgsm": BALL,
    "fmn": {"num_steps": 20},
    "ilcm": {**BALL, "num_steps": 5},
    "lbfgs": {"num_search_steps": 6},
    "mi_fgsm": {**BALL, "num_steps": 5},
    "pgd": START,
    "transfer": START,
}
HYPERPARAMETERS["carlini_wagner_l2"] |= {
    "initial_loss_weight": 1.0,
    "learning_rate": 0.05,
}
HYPERPARAMETERS["carlini_wagner_linf"]["initial_loss_weight"] = 0.1


def to_prototypes(prototypes, images):
    """Minus the distances; the gradient of the least is NaN at the prototype itself."""
    squares = jnp.sum((images[:, None] - prototypes) ** 2, axis=(2, 3, 4))
    return -jnp.sqrt(squares)


def tied(images):
    """Logits with a kink: equal, and with zero gradients, where all pixels are 0.5."""
    score = jnp.mean(jax.nn.relu(jnp.abs(images - 0.5) - 1e-4), axis=(1, 2, 3))
    return jnp.stack([jnp.full_like(score, 1e-5), score], axis=-1)


@pytest.fixture(scope="module")
def prototypes():
    """Three images, some pixels of which are at an edge of the box."""
    noise = jax.random.uniform(jax.random.key(1), (3, 4, 3, 1), minval=-0.3, maxval=1.3)
    return jnp.clip(noise, 0, 1)


def bind(name, model):
    extra = {"surrogate_fn": model} if name == "transfer" else {}
    return attacks.make_attack(name, **HYPERPARAMETERS[name], **extra)


def test_every_attack_is_here():
    assert {*HYPERPARAMETERS, *WITHOUT_GRADIENT} == set(attacks.ATTACKS)


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_a_gradient_that_is_not_finite(name, prototypes):
    model = Partial(to_prototypes, prototypes)
    labels = jnp.arange(3)
    result = bind(name, model)(model, prototypes, labels)
    assert attacks.succeeded(model(result), labels).all()


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_a_gradient_of_zero(name):
    model = Partial(tied)
    images, labels = jnp.full((2, 4, 3, 1), 0.5), jnp.zeros(2, jnp.int32)
    result = bind(name, model)(model, images, labels)
    assert attacks.succeeded(model(result), labels).all()


def test_deepfool_crosses_a_tie():
    """Both logits are equal: the nearest boundary is at distance 0."""
    result = attacks.deepfool(lambda x: x, jnp.full((1, 2), 0.3), jnp.array([0]))
    assert result[0, 1] > result[0, 0]
    # A millionth of the box in each pixel, which exceeds the rounding of a logit.
    assert jnp.abs(result - 0.3).max() < 2e-6


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_restarts_leave_in_their_own_directions(norm):
    """Where the model is flat, PGD walks on, by its key."""

    def constant(images):
        return jnp.zeros((len(images), 2)).at[:, 0].set(3.0)

    images, labels = jnp.full((2, 4, 3, 1), 0.5), jnp.zeros(2, jnp.int32)
    results = [
        attacks.pgd(
            constant, images, labels, epsilon=0.1, norm=norm, key=jax.random.key(seed)
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any(axis=(1, 2, 3)).all()
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    change = (results[0] - images).reshape(2, -1)
    # Up to rounding it ends at the surface of the ball.
    np.testing.assert_allclose(np.linalg.norm(change, order, axis=1), 0.1, rtol=1e-4)


def test_an_attack_that_has_succeeded_stays():
    """At a wanted class of probability 1 the cross-entropy has no gradient."""

    def certain(images):
        score = jnp.sum(jnp.sign(images - 0.5), axis=(1, 2, 3))
        return jnp.stack([score, -score], axis=-1) * 1e3

    images, wanted = jnp.full((2, 4, 3, 1), 0.7), jnp.zeros(2, jnp.int32)
    result = attacks.bim(certain, images, wanted, targeted=True, epsilon=0.1)
    np.testing.assert_array_equal(result, images)
