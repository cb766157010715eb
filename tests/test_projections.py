"""Test projections against brute force and known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import projections

BOX = (0.0, 1.0)


def random_problem(seed, spread, shape=(6, 5, 7, 2)):
    rng = np.random.default_rng(seed)
    images = np.clip(rng.uniform(-0.2, 1.2, shape), 0, 1).astype(np.float32)
    x = (images + spread * rng.normal(size=shape)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(images)


def exact_l1(x, image, epsilon, bounds):
    """Return the projection in float64, found along the sorted breakpoints."""
    r = x.astype(np.float64) - image
    amount = np.abs(r)
    room = np.where(r >= 0, bounds[1] - image, image - bounds[0]).astype(np.float64)

    def total(threshold):
        return np.clip(amount - threshold, 0, room).sum()

    if total(0) <= epsilon:
        return image + np.sign(r) * np.clip(amount, 0, room)
    breaks = np.unique(np.concatenate([amount.ravel(), (amount - room).ravel(), [0]]))
    breaks = breaks[breaks >= 0]
    totals = np.array([total(b) for b in breaks])
    after = int(np.argmax(totals <= epsilon))
    low, high = breaks[after - 1], breaks[after]
    share = (totals[after - 1] - epsilon) / (totals[after - 1] - totals[after])
    threshold = low + share * (high - low)
    return image + np.sign(r) * np.clip(amount - threshold, 0, room)


@pytest.mark.parametrize("epsilon", [0.0, 1e-7, 0.1, 0.3, 8 / 255, 0.77])
def test_linf_ball_holds_to_the_last_bit(epsilon):
    x, images = random_problem(0, 3.0, (50, 28, 28, 1))
    result = np.asarray(projections.project_linf(x, images, epsilon, BOX))
    assert np.abs(result - np.asarray(images)).max() <= np.float32(epsilon)
    # and gives away no more than that bit: half a unit at 1 is 6e-8
    clipped = np.clip(np.asarray(x), images - epsilon, images + epsilon)
    np.testing.assert_allclose(result, np.clip(clipped, 0, 1), atol=1.2e-7)


@pytest.mark.parametrize("name", sorted(projections.PROJECTIONS))
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.5, 3.0])
def test_within_ball_and_box(name, epsilon):
    x, images = random_problem(1, 1.0)
    result = projections.PROJECTIONS[name](x, images, epsilon, BOX)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[name]
    flat = np.asarray(result - images, np.float64).reshape(len(x), -1)
    # Each of the 70 pixels is rounded by at most half a unit in the last place.
    rounding = 70 * 6e-8
    assert np.linalg.norm(flat, order, axis=1).max() <= epsilon + rounding
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


@pytest.mark.parametrize("name", sorted(projections.PROJECTIONS))
def test_points_inside_stay(name):
    x, images = random_problem(2, 1e-4)
    x = jnp.clip(x, 0, 1)
    result = projections.PROJECTIONS[name](x, images, 1.0, BOX)
    # x - images and back costs one rounding.
    np.testing.assert_allclose(result, x, atol=1.2e-7)


@pytest.mark.parametrize("spread", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 6.0])
def test_l1_is_the_nearest_point(spread, epsilon):
    x, images = random_problem(3, spread)
    result = projections.project_l1(x, images, epsilon, BOX)
    expected = [
        exact_l1(np.asarray(a), np.asarray(b), epsilon, BOX)
        for a, b in zip(x, images, strict=True)
    ]
    # The threshold is as exact as float32 numbers of the size of x - images are.
    np.testing.assert_allclose(result, expected, atol=1e-6 * max(1, spread))


def test_l1_by_hand():
    images = jnp.full((1, 1, 4, 1), 0.5)
    x = images + jnp.array([0.9, -0.3, 0.2, 0.0]).reshape(1, 1, 4, 1)
    result = projections.project_l1(x, images, 0.7, BOX)
    # The first has room for 0.5 only; threshold 0.15 gives 0.15 and 0.05.
    expected = np.array([1.0, 0.35, 0.55, 0.5]).reshape(1, 1, 4, 1)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_l2_by_hand():
    images = jnp.full((1, 1, 2, 1), 0.5)
    x = images + jnp.array([0.3, 0.4]).reshape(1, 1, 2, 1)
    result = projections.project_l2(x, images, 0.25, BOX)
    expected = np.array([0.65, 0.7]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(result, expected, atol=1e-7)


def test_norm_of_tiny_and_huge_numbers():
    for scale in (1e-30, 1.0, 1e30):
        values = scale * jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)
        norm = projections.norm_l2(values)
        np.testing.assert_allclose(norm.ravel(), 5 * scale, rtol=1e-6)
    assert projections.norm_l2(jnp.zeros((2, 1, 2, 1))).ravel().tolist() == [0, 0]


def test_perturb_bounds_and_keeps_gradients_that_point_inwards():
    images = jnp.array([0.1, 0.5, 0.9]).reshape(1, 1, 3, 1)
    perturbation = jnp.array([-0.5, 0.1, 0.5]).reshape(1, 1, 3, 1)

    def brightness(r, sign):
        return sign * projections.perturb(images, r, 0.3, BOX).sum()

    x = projections.perturb(images, perturbation, 0.3, BOX)
    np.testing.assert_allclose(x.ravel(), [0.0, 0.6, 1.0], atol=1e-7)
    up = jax.grad(brightness)(perturbation, -1.0).ravel()
    down = jax.grad(brightness)(perturbation, 1.0).ravel()
    assert up.tolist() == [-1, -1, 0]  # brighter is descent: only inwards passes
    assert down.tolist() == [0, 1, 1]
