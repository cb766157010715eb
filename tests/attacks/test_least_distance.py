"""Searches for the shortest perturbation, on models whose least distance is known."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks, data, zoo
from advgan_jax.attacks._planes import cross, least_of_largest

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
NUM_PIXELS = 12
RATIOS = {
    "carlini_wagner_l2": 1.02,
    "carlini_wagner_linf": 1.02,
    "ddn": 1.02,
    "deepfool": 1.03,
    "fab": 1.02,
    "fab_targeted": 1.02,
    "fmn": 1.02,
    "lbfgs": 1.02,
}
HYPERPARAMETERS = {
    "carlini_wagner_l2": {"num_steps": 300, "initial_loss_weight": 0.1},
    "carlini_wagner_linf": {
        "num_steps": 300,
        "tau_factor": 0.99,
        "initial_loss_weight": 1e-3,
    },
    "deepfool": {"overshoot": 0.02},
    "fab": {"num_steps": 60},
    "fab_targeted": {"num_steps": 60, "num_classes_tried": 2},
}
# The first has an objective of two norms, the next need queries, and the last is not of
# the model; each has tests of its own.
OTHERS = {"ead", "hop_skip_jump", "rays", "transfer"}
CASES = [
    *((name, "l2") for name in RATIOS if name != "carlini_wagner_linf"),
    *((name, "linf") for name in ("deepfool", "fab", "fab_targeted", "fmn")),
    ("carlini_wagner_linf", "linf"),
    *((name, "l1") for name in ("fab", "fab_targeted", "fmn")),
]
# They compile long for little: other tests and `fab` have the same loops.
SLOW = [
    ("carlini_wagner_l2", "l2"),
    ("carlini_wagner_linf", "linf"),
    ("fab_targeted", "linf"),
    ("fab_targeted", "l1"),
]


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def two_units(params, images):
    """Class 1 wins beyond a kink, where the second unit halves the slope."""
    along = images.reshape(len(images), -1) @ params["w"]
    score = jax.nn.relu(along - params["on"]) - 0.5 * jax.nn.relu(
        along - params["kink"]
    )
    threshold = jnp.full(len(images), params["threshold"])
    return jnp.stack([threshold, score], axis=-1)


@pytest.fixture(scope="module")
def models():
    """Models, images in the middle of the box, and their distances by norm."""
    rng = np.random.default_rng(3)
    images = rng.uniform(0.45, 0.55, (4, NUM_PIXELS)).astype(np.float32)
    weights = rng.normal(size=(NUM_PIXELS, 3)).astype(np.float32)
    scores = images @ weights
    labels = scores.argmax(axis=1)
    lane = np.arange(len(images))
    gaps = scores[lane, labels][:, None] - scores
    normals = np.moveaxis(weights[:, labels][..., None] - weights[:, None], 0, 2)
    unit = rng.normal(size=NUM_PIXELS).astype(np.float32)
    along = images @ unit
    on, kink = along.min() - 0.1, along.max() + 0.1
    # Beyond the kink the score is `kink - on + (along - kink) / 2`.
    wanted, threshold = kink + 0.2, kink - on + 0.1
    known = {}
    for norm, dual in (("l2", 2), ("linf", 1), ("l1", np.inf)):
        sizes = np.linalg.norm(normals, dual, axis=2)
        first = np.where(gaps > 0, gaps, np.inf) / np.where(sizes > 0, sizes, 1)
        second = (wanted - along) / np.linalg.norm(unit, dual)
        known[norm] = {"linear": first.min(axis=1), "relu": second}
    images = jnp.asarray(images).reshape(4, 3, 4, 1)
    params = {"w": unit, "on": on, "kink": kink, "threshold": threshold}
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), params)
    return {
        "linear": (Partial(linear, jnp.asarray(weights)), images, jnp.asarray(labels)),
        "relu": (Partial(two_units, params), images, jnp.zeros(4, jnp.int32)),
    }, known


KINDS = [
    pytest.param(*(name, norm, kind), marks=[pytest.mark.slow] * ((name, norm) in SLOW))
    for name, norm in CASES
    for kind in ("linear", "relu")
]


def test_every_attack_without_a_bound_is_here():
    unbounded = {
        name
        for name, attack in attacks.ATTACKS.items()
        for epsilon in [inspect.signature(attack).parameters.get("epsilon")]
        if epsilon is None or epsilon.default is None
    }
    assert unbounded == {*RATIOS, *OTHERS}


@pytest.mark.parametrize(("name", "norm", "kind"), KINDS)
def test_ratio_to_the_optimum(name, norm, kind, models):
    cases, known = models
    model, images, labels = cases[kind]
    hyper = dict(HYPERPARAMETERS.get(name, {}))
    if "norm" in attacks.make_attack(name).known:
        hyper["norm"] = norm
    found = attacks.ATTACKS[name](model, images, labels, **hyper)
    assert attacks.succeeded(model(found), labels).all()
    change = np.asarray(found - images, np.float64).reshape(4, -1)
    ratio = np.linalg.norm(change, ORDERS[norm], axis=1) / known[norm][kind]
    assert (ratio > 1 - 1e-4).all(), ratio
    assert ratio.max() <= RATIOS[name], ratio


@pytest.mark.parametrize(
    ("name", "factor"), [("fab", 0.9), ("fab", 1.2), ("fab_targeted", 1.2)]
)
def test_fab_ends_at_a_sufficient_distance(name, factor, models):
    """The first success within it is the last; it overshoots by a twentieth."""
    (model, images, labels), known = models[0]["linear"], models[1]["linf"]["linear"]

    def distances(model, images, **hyper):
        hyper |= {"norm": "linf", **HYPERPARAMETERS[name]}
        found = attacks.ATTACKS[name](model, images, labels, **hyper)
        assert attacks.succeeded(model(found), labels).all()
        return np.abs(found - images).max(axis=(1, 2, 3))

    least = distances(model, images)
    limit = factor * known.min()
    found = distances(model, images, sufficient_distance=limit)
    nearest = np.argmin(known)
    assert (found[nearest] > 1.02 * least[nearest]) == (factor > 1)
    pixels = distances(
        lambda x: model(x / 255),
        255 * images,
        sufficient_distance=255 * limit,
        bounds=(0, 255),
    )
    np.testing.assert_allclose(pixels, 255 * found, rtol=1e-3)


@pytest.mark.slow
def test_fab_goes_on_from_a_boundary_that_it_cannot_cross_clearly(mnist):
    """Towards some classes it reaches a far boundary up to rounding.

    All its later steps would be as short as the rounding, and 2.1 was its least.
    """
    rows = np.array([13, 144, 167])
    images, labels = data.to_float(mnist.test.images[rows]), mnist.test.labels[rows]
    model = zoo.load("target/mnist-c-robust")
    hyper = {"norm": "l2", "sufficient_distance": 2.0}
    found = attacks.fab_targeted(model, images, labels, **hyper)
    assert attacks.succeeded(model(found), labels).all()
    change = (np.asarray(found) - images).reshape(3, -1)
    assert np.linalg.norm(change, axis=1).max() <= 2.0


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("gap", [-0.7, 0.4, -1e3])
def test_crossing_a_plane_in_the_box(norm, gap):
    """The change is the optimum of a small programme, worked by sorting."""
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 1, (6, 9)).astype(np.float32)
    x[:, :2] = [0, 1]
    slope = rng.normal(size=(6, 9)).astype(np.float32)
    slope[:, 3] = 0
    change = cross(jnp.asarray(x), jnp.asarray(slope), jnp.full(6, gap), norm)
    change = np.asarray(change, np.float64)
    assert (x + change >= -1e-6).all()
    assert (x + change <= 1 + 1e-6).all()
    size = np.linalg.norm(change, ORDERS[norm], axis=1)
    for row, weights, found, length in zip(x, slope, change, size, strict=True):
        signs = np.sign(-gap * weights)
        room = np.where(signs > 0, 1 - row, row) * (weights != 0)
        reach = (np.abs(weights) * room).sum()
        gained = (signs * np.abs(weights) * found).sum()
        np.testing.assert_allclose(gained, min(abs(gap), reach), rtol=1e-5)
        expected = least_length(np.abs(weights), room, min(abs(gap), reach), norm)
        np.testing.assert_allclose(length, expected, rtol=1e-4)


def least_length(weights, room, gain, norm):
    """The least norm of a change of that gain, by bisection on its multiplier."""
    if norm == "l1":
        total = 0.0
        for pixel in np.argsort(-weights):
            step = min(room[pixel], gain / weights[pixel]) if weights[pixel] else 0
            total, gain = total + step, gain - step * weights[pixel]
        return total
    speeds = weights if norm == "l2" else 1.0
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        short = (weights * np.minimum(middle * speeds, room)).sum() < gain * (1 - 1e-12)
        low, high = (middle, high) if short else (low, middle)
    return np.linalg.norm(np.minimum(high * speeds, room), ORDERS[norm])


def test_where_the_largest_entries_end():
    values = jnp.array([[3.0, 1.0, 2.0, 2.0], [0.0, 0.0, 5.0, 1e-30]])
    for number, expected in ((1, [3, 5]), (2, [2, 1e-30]), (4, [1, 0]), (9, [0, 0])):
        least = least_of_largest(values, jnp.ones((2, 4)), jnp.full(2, number))
        np.testing.assert_array_equal(least, np.array(expected, np.float32))
