"""EAD on linear models, whose least sum of norms is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks

NUM_PIXELS = 12
HYPER = {"num_steps": 300, "initial_loss_weight": 0.1, "learning_rate": 0.05}


def linear(weights, images):
    scores = images.reshape(len(images), -1) @ weights
    return jnp.stack([0 * scores, scores], axis=-1)


@pytest.fixture(scope="module")
def problem():
    """Images of class 1 in the middle of the box, the weights, and the gaps."""
    rng = np.random.default_rng(4)
    weights = rng.normal(size=NUM_PIXELS).astype(np.float32)
    images = np.full((3, NUM_PIXELS), 0.5, np.float32)
    images -= (images @ weights / (weights @ weights))[:, None] * weights
    gaps = np.array([0.1, 0.3, 0.6], np.float32)
    images += (gaps / (weights @ weights))[:, None] * weights
    return Partial(linear, jnp.asarray(weights)), images.reshape(3, 3, 4, 1), gaps


def optimum(weights, gap, l1_weight):
    """The change of least sum of norms that closes a gap, by bisection."""
    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        change = np.maximum(middle * np.abs(weights) - l1_weight, 0) / 2
        low, high = (middle, high) if np.abs(weights) @ change < gap else (low, middle)
    return change


def elastic_net(change, l1_weight):
    return np.sum(change**2, axis=-1) + l1_weight * np.abs(change).sum(axis=-1)


@pytest.mark.parametrize("l1_weight", [0.0, 0.02, 0.1])
def test_it_finds_the_least_sum(l1_weight, problem):
    model, images, gaps = problem
    hyper = {**HYPER, "l1_weight": l1_weight, "decision": "elastic_net"}
    found = attacks.ead(model, images, np.ones(3, np.int32), **hyper)
    assert attacks.succeeded(model(found), np.ones(3, np.int32)).all()
    change = np.asarray(found - images, np.float64).reshape(3, -1)
    weights = np.asarray(model.args[0], np.float64)
    best = np.stack([optimum(weights, gap, l1_weight) for gap in gaps])
    ratio = elastic_net(change, l1_weight) / elastic_net(best, l1_weight)
    # Float32 rounds the gap, whose square is the ratio's.
    assert (ratio > 1 - 1e-3).all(), ratio
    assert ratio.max() < 1.02, ratio
    if l1_weight == 0.1:
        assert (best[0] == 0).any()
        assert (change[0][best[0] == 0] == 0).all()


def test_the_decision_chooses_the_norm(net, images, labels):
    hyper = {"num_steps": 30, "learning_rate": 0.05, "initial_loss_weight": 0.1}
    l1, nets = {}, {}
    for decision in ("elastic_net", "l1"):
        own = {**hyper, "l1_weight": 0.02, "decision": decision}
        found = attacks.ead(net, images, labels, **own)
        change = np.asarray(found - images).reshape(3, -1)
        l1[decision], nets[decision] = np.abs(change).sum(1), elastic_net(change, 0.02)
    # The bisection at the end stops within 0.1 percent.
    assert (l1["l1"] <= l1["elastic_net"] * 1.001).all()
    assert (nets["elastic_net"] <= nets["l1"] * 1.002).all()
    assert (l1["l1"] < l1["elastic_net"] * 0.997).any()


def test_an_unknown_decision(problem):
    model, images, _ = problem
    with pytest.raises(ValueError, match=r"decision 'l2'.*elastic_net, l1"):
        attacks.ead(model, images, np.ones(3, np.int32), decision="l2")
