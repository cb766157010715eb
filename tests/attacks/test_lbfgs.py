"""Szegedy's attack: known answers on linear models, and what it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax.attacks import _lbfgs, succeeded
from advgan_jax.attacks.lbfgs import SOLVERS, lbfgs, lbfgs_search

SHAPE = (5, 7, 2)
# Some three tenfold steps, and the last bracket is cut to 4 percent.
STEPS = 9


def _two_class(weights, images):
    score = jnp.sum(weights * (images - 0.5), axis=(1, 2, 3))
    return jnp.stack([score, -score], axis=-1)


def two_class(num_images, shape, low, high, push, seed=0):
    """A linear model, and images that are pushed towards class 0."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=shape).astype(np.float32)
    pixels = rng.uniform(low, high, (num_images, *shape)).astype(np.float32)
    images = jnp.clip(pixels + push * np.sign(weights), 0, 1)
    return Partial(_two_class, jnp.asarray(weights)), images


def least_distances(weights, images):
    """To the boundary within the box: `clip(x - t w)` for the t that reaches it."""
    weights, images = np.asarray(weights, np.float64), np.asarray(images, np.float64)
    distances = []
    for image in images:
        low, high = 0.0, 100.0
        for _ in range(100):
            t = (low + high) / 2
            moved = np.clip(image - t * weights, 0, 1)
            low, high = (t, high) if np.sum(weights * (moved - 0.5)) > 0 else (low, t)
        distances.append(np.linalg.norm(np.clip(image - high * weights, 0, 1) - image))
    return np.array(distances)


def lengths(perturbation):
    flat = np.asarray(perturbation, np.float64).reshape(len(perturbation), -1)
    return np.linalg.norm(flat, axis=1)


@pytest.mark.parametrize(
    ("solver", "num_images", "shape", "targeted", "box"),
    [
        ("projected", 1, (5, 7, 2), True, "inactive"),
        ("projected", 3, (4, 3, 1), True, "active"),
        ("projected", 8, (2, 9, 3), False, "active"),
        ("jax", 3, (4, 3, 1), True, "active"),
        ("jax", 8, (5, 7, 2), False, "inactive"),
    ],
)
def test_within_one_percent_of_the_least_distance(
    solver, num_images, shape, targeted, box
):
    # Most pixels are exactly 0 or 1 where the box is active.
    pixels = {"inactive": (0.4, 0.6, 0.1), "active": (-0.4, 1.4, 0.6)}[box]
    model, images = two_class(num_images, shape, *pixels)
    labels = jnp.full(num_images, int(targeted))
    result = lbfgs(
        model,
        images,
        labels,
        solver=solver,
        targeted=targeted,
        num_search_steps=STEPS,
    )
    assert succeeded(model(result), labels, targeted=targeted).all()
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1
    # The last bisection moves them off by as little as it shortens.
    at_edge = (np.abs(result - 0.5) > 0.495) & (result != images)
    assert at_edge.any() == (box == "active")
    least = least_distances(model.args[0], images)
    ratio = lengths(result - images) / least
    assert ratio.min() > 1 - 1e-5  # rounding of float32
    assert ratio.max() < 1.01


@pytest.mark.parametrize("targeted", [False, True])
def test_several_classes(targeted, make_linear):
    model, images, labels = make_linear(8)
    weights = np.asarray(model.args[0]["w"], np.float64)
    logits = np.asarray(model(images), np.float64)
    rows, own = np.arange(8), np.asarray(labels)
    slopes = np.linalg.norm(weights.T[None] - weights.T[own][:, None], axis=-1)
    gaps = logits[rows, own][:, None] - logits
    distances = np.where(slopes > 0, gaps / np.maximum(slopes, 1e-9), np.inf)
    # The nearest class is reached by crossing a single boundary.
    chosen = jnp.asarray(distances.argmin(axis=1)) if targeted else labels
    result = lbfgs(model, images, chosen, targeted=targeted, num_search_steps=STEPS + 3)
    ratio = lengths(result - images) / distances.min(axis=1)
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.01


@pytest.mark.parametrize("initial_distance_weight", [1e-3, 1e4])
def test_the_largest_c_is_found_from_either_side(initial_distance_weight):
    model, images = two_class(3, SHAPE, 0.4, 0.6, 0.1)
    labels = jnp.zeros(3, jnp.int32)
    found = lbfgs_search(
        model,
        images,
        labels,
        initial_distance_weight=initial_distance_weight,
        num_search_steps=15,
    )
    distances = least_distances(model.args[0], images)
    # At the boundary both classes have p = 1/2, and 2 c r balances |2 w| / 2.
    largest = np.linalg.norm(model.args[0]) / (2 * distances)
    # Nine bisections of a factor ten leave half a percent, and so does the tolerance
    # of the minimisation.
    np.testing.assert_allclose(found.distance_weight, largest, rtol=0.01)
    np.testing.assert_allclose(found.l2, distances, rtol=0.01)


def test_result_says_what_was_found(net, images, labels):
    chosen = labels.at[1].set((labels[1] + 1) % 5)  # misclassified already
    found = lbfgs_search(net, images, chosen, num_search_steps=STEPS)
    assert found.success.all()
    np.testing.assert_array_equal(found.images[1], images[1])
    np.testing.assert_array_equal(found.l2[1], 0)
    np.testing.assert_array_equal(
        found.distance_weight,
        [*found.distance_weight[:1], np.inf, *found.distance_weight[2:]],
    )
    # Squares are summed in another order.
    np.testing.assert_allclose(found.l2, lengths(found.images - images), rtol=1e-5)
    np.testing.assert_allclose(found.rms_distortion, found.l2 / np.sqrt(70), rtol=1e-6)
    assert (found.num_evaluations[::2] > STEPS).all()
    np.testing.assert_array_equal(
        found.images, lbfgs(net, images, chosen, num_search_steps=STEPS)
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("num_pixels", "high"), [(2, 255.0), (200_000, 1.0)], ids=["units", "pixels"]
)
def test_small_slopes_are_no_minimum(solver, num_pixels, high):
    """Each pixel changes a mean by less than 1e-5: by its unit, or as one of many."""

    def means(x):
        return x.reshape(len(x), 2, -1).mean(-1) / high

    images = high * jnp.repeat(jnp.array([[0.6, 0.3]]), num_pixels // 2, axis=1)
    found = lbfgs_search(
        means, images, jnp.array([0]), solver=solver, bounds=(0, high), num_steps=20
    )
    assert found.success.all()
    least = 0.15 * high * num_pixels**0.5
    # Six of the twelve values of c are spent on the way to 1e-5.
    np.testing.assert_allclose(found.l2, least, rtol=0.1)
    # The attack sums up 200,000 squares in float32.
    np.testing.assert_allclose(found.l2, lengths(found.images - images), rtol=1e-4)
    np.testing.assert_allclose(found.rms_distortion, 0.15 * high, rtol=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_failed_and_finished_images_stay(solver, images):
    def constant(x):
        return jnp.zeros((x.shape[0], 3)).at[:, 1].set(3.0) + 0 * x.sum()

    wanted = jnp.array([0, 1, 2])
    settings = {"solver": solver, "targeted": True, "num_search_steps": 3}
    found = lbfgs_search(constant, images, wanted, **settings)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.success, [False, True, False])
    np.testing.assert_array_equal(found.distance_weight, [np.nan, np.inf, np.nan])
    np.testing.assert_array_equal(found.l2, [np.inf, 0, np.inf])


def test_alone_as_in_a_batch(net, images, labels):
    together = lbfgs_search(net, images, labels, num_search_steps=STEPS)
    for i in range(3):
        one = slice(i, i + 1)
        alone = lbfgs_search(net, images[one], labels[one], num_search_steps=STEPS)
        # Another batch size rounds otherwise: within the tolerance of a minimisation,
        # and where `c r^2` changes by less than the rounding of a loss of about one.
        rounding = 2 * float(
            jnp.sqrt(jnp.finfo(jnp.float32).eps / together.distance_weight[i])
        )
        np.testing.assert_allclose(alone.l2, together.l2[one], rtol=1e-3, atol=rounding)


@pytest.mark.parametrize("solver", SOLVERS)
def test_new_weights_and_images_compile_nothing(solver, images, compiles):
    def logits_fn(weights, x):
        return jnp.tanh(x.reshape(x.shape[0], -1)) @ weights

    weights = jax.random.normal(jax.random.key(0), (70, 4))
    settings = {"solver": solver, "num_search_steps": 2, "targeted": True}
    labels = jnp.zeros(3, jnp.int32)
    lbfgs(Partial(logits_fn, weights), images, labels, **settings)
    model, images, labels = Partial(logits_fn, 2 * weights), images[::-1], labels + 1
    with compiles(0):
        lbfgs(model, images, labels, initial_distance_weight=3.0, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["jax", "projected"])
def test_jit_and_vmap(solver):
    model, images = two_class(2, (3, 4, 1), -0.4, 1.4, 0.6)
    labels = jnp.zeros(2, jnp.int32)

    def run(model, images, labels):
        return lbfgs(model, images, labels, solver=solver, num_search_steps=4)

    expected = run(model, images, labels)
    jitted = jax.jit(run)(model, images, labels)
    # Other fusions round otherwise, and the solver stops where the objective is flat.
    np.testing.assert_allclose(jitted, expected, atol=1e-4)
    if solver == "jax":  # works, but see `solve_jax` for why nobody wants it
        return
    mapped = jax.vmap(lambda x, y: run(model, x[None], y[None])[0])(images, labels)
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_search_steps": 0}, "`num_search_steps` must be an integer >= 1, got 0"),
        ({"num_steps": 0}, "`num_steps` must be a finite number >= 1, got 0"),
        ({"memory": 0}, "`memory` must be a finite number >= 1, got 0"),
        (
            {"initial_distance_weight": 0.0},
            "`initial_distance_weight` must be > 0, got 0",
        ),
        (
            {"initial_distance_weight": np.nan},
            "`initial_distance_weight` must be a finite number",
        ),
        ({"targeted": True}, "`lbfgs` with `targeted=True` needs `labels`"),
    ],
)
def test_wrong_settings_are_refused(solver, arguments, message, net, images):
    with pytest.raises(ValueError, match=message):
        lbfgs(net, images, solver=solver, **arguments)


def test_unknown_solver_lists_the_known(net, images):
    with pytest.raises(ValueError, match=r"'projekted'. Did you mean 'projected'.*jax"):
        lbfgs(net, images, solver="projekted")


def test_bracket_by_tens_then_by_halves():
    c, succeeded_at, failed_at = (
        jnp.array(row)
        for row in zip(
            (1.0, 1.0, 0.0),  # succeeded at once: tenfold
            (1.0, 0.0, 1.0),  # failed at once: a tenth
            (5.0, 0.1, 10.0),  # both: the geometric mean
            (1e18, 1e18, 0.0),  # the end of the range
            strict=True,
        )
    )
    failed_at = jnp.where(failed_at == 0, jnp.inf, failed_at)
    following = _lbfgs.next_c(c, succeeded_at, failed_at)
    np.testing.assert_allclose(following, [10, 0.1, 1, 1e18], rtol=1e-6)
