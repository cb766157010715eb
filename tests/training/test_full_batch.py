"""Test full-batch L-BFGS: known minima, separable data, and convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from advgan_jax import models
from advgan_jax.training import full_batch
from advgan_jax.types import Batch


def fitted(objective, params, batch, calls=20, steps=10, **tolerances):
    tolerances = {"gradient_tolerance": 1e-6, "value_tolerance": 0.0} | tolerances
    run = jax.jit(
        full_batch.until_converged(
            full_batch.make_train_step(objective), steps, **tolerances
        )
    )
    state = full_batch.init_state(params)
    for _ in range(calls):
        state, metrics = run(state, batch)
        if metrics["converged"]:
            break
    return state, metrics


@pytest.fixture(scope="module")
def clusters():
    """Return 2x2 images of three classes that planes separate."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    corners = np.array(
        [[0.2, 0.2, 0.8, 0.8], [0.8, 0.2, 0.2, 0.8], [0.2, 0.8, 0.8, 0.2]]
    )
    images = corners[labels] + rng.uniform(-0.15, 0.15, (60, 4))
    return Batch(
        jnp.asarray(images.reshape(60, 2, 2, 1), jnp.float32), jnp.asarray(labels)
    )


@pytest.mark.parametrize("hidden", [(), (6, 5)])
def test_separable_data_is_learnt_without_error(clusters, hidden):
    model = models.FullyConnected(num_classes=3, hidden=hidden)
    params = model.init(jax.random.key(0), clusters.images)["params"]
    objective = full_batch.classification(model, (1e-6,) * (len(hidden) + 1))
    state, metrics = fitted(objective, params, clusters)
    assert metrics["accuracy"] == 1
    logits = model.apply({"params": state.model.params}, clusters.images)
    np.testing.assert_array_equal(jnp.argmax(logits, axis=1), clusters.labels)


def test_convex_minimum_is_that_of_scipy(clusters):
    model = models.FullyConnected(num_classes=3)
    params = model.init(jax.random.key(0), clusters.images)["params"]
    state, metrics = fitted(full_batch.classification(model, (0.03,)), params, clusters)
    x = np.asarray(clusters.images, np.float64).reshape(60, 4)

    def loss(flat):
        kernel, bias = flat[:12].reshape(4, 3), flat[12:]
        logits = x @ kernel + bias
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        fit = -log_p[np.arange(60), np.asarray(clusters.labels)].mean()
        # As many classes as units of the only layer; the biases are free.
        return fit + 0.03 * np.sum(kernel**2)

    best = minimize(loss, np.zeros(15), method="BFGS", tol=1e-9)
    assert metrics["converged"]
    # With a gradient below 1e-6 the value is exact to float32's last digits, and the
    # weights, of curvature 0.02 at least, to 1e-4.
    assert float(metrics["loss"]) == pytest.approx(best.fun, rel=1e-6)
    np.testing.assert_allclose(
        np.asarray(state.model.params["Dense_0"]["kernel"]).ravel(),
        best.x[:12],
        atol=1e-4,
    )


def test_weight_decay_by_hand():
    params = {
        "Dense_0": {"kernel": jnp.full((2, 4), 3.0), "bias": jnp.full(4, 9.0)},
        "Dense_1": {"kernel": jnp.full((4, 5), 1.0), "bias": jnp.full(5, 9.0)},
    }
    # Five classes: 5 * (0.1 * 8 * 9 / 4 + 0.5 * 20 / 5)
    assert full_batch.weight_decay(params, (0.1, 0.5)) == pytest.approx(19)
    with pytest.raises(ValueError, match="one number for each of the 2 layers"):
        full_batch.weight_decay(params, (0.1,))


@pytest.mark.slow
def test_pieces_make_the_same_whole(clusters):
    """Twice ten iterations equal twenty: the state contains all of L-BFGS' memory."""
    model = models.FullyConnected(num_classes=3, hidden=(5,))
    params = model.init(jax.random.key(0), clusters.images)["params"]
    objective = full_batch.classification(model, (1e-4, 1e-4))
    tolerances = {"gradient_tolerance": 0.0}
    twice, _ = fitted(objective, params, clusters, calls=4, steps=5, **tolerances)
    other, _ = fitted(objective, params, clusters, calls=2, steps=10, **tolerances)
    assert int(twice.step) == int(other.step) == 20
    for a, b in zip(jax.tree.leaves(twice), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_convergence_by_value(clusters):
    model = models.FullyConnected(num_classes=3)
    params = model.init(jax.random.key(0), clusters.images)["params"]
    objective = full_batch.classification(model, (0.03,))
    loose = {"gradient_tolerance": 0.0, "value_tolerance": 0.5}
    state, metrics = fitted(objective, params, clusters, steps=2, **loose)
    assert metrics["converged"]
    assert metrics["gradient"] > 1e-4  # it is far from the minimum
    assert int(state.step) < 20
    # A single iteration has no earlier value to compare with.
    state, metrics = fitted(objective, params, clusters, calls=3, steps=1, **loose)
    assert not metrics["converged"]


@pytest.mark.parametrize("name", ["gradient_tolerance", "value_tolerance"])
def test_tolerances_are_checked(name):
    tolerances = {"gradient_tolerance": 0.0, "value_tolerance": 0.0, name: -1.0}
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number >= 0"):
        full_batch.until_converged(len, 1, **tolerances)
    with pytest.raises(ValueError, match="`num_steps` must be a finite number >= 1"):
        full_batch.until_converged(len, 0, gradient_tolerance=0, value_tolerance=0)


class TestAutoencoder:
    def test_loss_by_hand(self):
        model = full_batch.Autoencoder(units=2)
        images = jnp.array([[0.0, 1], [1, 1]]).reshape(2, 1, 2, 1)
        params = {
            "Dense_0": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)},
            "Dense_1": {"kernel": jnp.ones((2, 2)), "bias": -jnp.ones(2)},
        }
        objective = full_batch.sparse_reconstruction(
            model, sparsity=0.1, sparsity_weight=3.0, weight_decay=0.5
        )
        loss, metrics = objective(params, Batch(images, jnp.zeros(2, int)))
        # Units are 1/2, so are pixels: an error of 1/4 each, two each image, halved.
        assert metrics["error"] == pytest.approx(0.25)
        divergence = 0.1 * np.log(0.1 / 0.5) + 0.9 * np.log(0.9 / 0.5)
        expected = 0.25 + 3 * 2 * divergence + 0.5 * 4 / 2
        assert float(loss) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.slow
    def test_learns_sparse_units(self, digits):
        images = jnp.asarray(digits.train.images[:300])
        batch = Batch(images, jnp.zeros(300, int))
        model = full_batch.Autoencoder(units=12)
        params = model.init(jax.random.key(0), images[:1])["params"]
        objective = full_batch.sparse_reconstruction(
            model, sparsity=0.1, sparsity_weight=3.0, weight_decay=1e-4
        )
        before = objective(params, batch)[1]["error"]
        state, metrics = fitted(objective, params, batch, calls=10)
        _, units = model.apply({"params": state.model.params}, images)
        assert metrics["error"] < before / 3
        # The penalty of a unit that is on half of the time is 3 * 0.51, far above the
        # error that it could save.
        assert np.abs(np.mean(units, axis=0) - 0.1).max() < 0.1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sparsity": 0.0}, r"`sparsity` must be in \(0, 1\), got 0.0"),
            ({"sparsity_weight": -1.0}, "`sparsity_weight` must be"),
            ({"weight_decay": -1.0}, "`weight_decay` must be"),
        ],
    )
    def test_refused(self, changes, message):
        settings = {"sparsity": 0.1, "sparsity_weight": 3.0, "weight_decay": 0.0}
        with pytest.raises(ValueError, match=message):
            full_batch.sparse_reconstruction(
                full_batch.Autoencoder(), **(settings | changes)
            )


def test_frozen_first_layer_and_softmax_are_one_net():
    images = jax.random.uniform(jax.random.key(0), (5, 4, 4, 1))
    encoder = full_batch.Autoencoder(units=7)
    below = encoder.init(jax.random.key(1), images)
    _, units = encoder.apply(below, images)
    softmax = models.FullyConnected(num_classes=3)
    top = softmax.init(jax.random.key(2), units[:, None, None, :])
    whole = models.FullyConnected(num_classes=3, hidden=(7,))
    params = full_batch.with_first_layer(below["params"], top["params"])
    # The same float32 sums.
    np.testing.assert_allclose(
        whole.apply({"params": params}, images),
        softmax.apply(top, units[:, None, None, :]),
        rtol=1e-5,
        atol=1e-6,
    )
