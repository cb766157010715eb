"""What the solvers of Szegedy's attack minimise; they agree on a trained net."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import optimizers
from advgan_jax.attacks import _lbfgs, succeeded
from advgan_jax.attacks.deepfool import nearest_classes
from advgan_jax.attacks.lbfgs import SOLVERS, lbfgs_search, solve_jax


@pytest.fixture(scope="module")
def digit_problems(digits, digits_logits_fn):
    """Correctly classified digits and random other classes."""
    images = digits.test.images[:44].astype(np.float32)
    images = images / 255 if images.max() > 1 else images
    labels = digits.test.labels[:44]
    right = np.asarray(digits_logits_fn(images)).argmax(axis=-1) == labels
    images, labels = images[right][:40], labels[right][:40]
    shift = np.random.default_rng(0).integers(1, 10, len(labels))
    return jnp.asarray(images), jnp.asarray(labels), jnp.asarray((labels + shift) % 10)


@pytest.mark.slow
@pytest.mark.parametrize("targeted", [False, True])
def test_as_good_as_scipy_on_a_trained_net(
    targeted, digits_logits_fn, digit_problems, scipy_lbfgs
):
    images, labels, wanted = (array[:12] for array in digit_problems)
    chosen = wanted if targeted else labels
    solvers = SOLVERS if targeted else ("projected",)
    searches = {s: partial(lbfgs_search, solver=s) for s in solvers}
    searches["scipy"] = scipy_lbfgs.search
    settings = {"targeted": targeted, "num_search_steps": 7}
    found = {
        solver: search(digits_logits_fn, images, chosen, **settings)
        for solver, search in searches.items()
    }
    for result in found.values():
        assert result.success.all()
        assert succeeded(
            digits_logits_fn(result.images), chosen, targeted=targeted
        ).all()
    mean = {solver: float(result.l2.mean()) for solver, result in found.items()}
    assert mean["projected"] <= 1.01 * mean["scipy"]
    if targeted:  # a penalty is not a box
        assert mean["jax"] <= 1.03 * mean["scipy"]


@pytest.mark.slow
def test_solvers_agree_at_a_given_c(digits_logits_fn, digit_problems, scipy_lbfgs):
    images, _, wanted = (array[:8] for array in digit_problems)
    problem = _lbfgs.Problem(
        images, wanted, wanted, jnp.ones(8, bool), jnp.full(8, 1e-5), images
    )
    c = jnp.full(8, 0.5)
    settings = _lbfgs.Settings(1, 60, 10, targeted=True, bounds=(0.0, 1.0))

    def values_and_gradients(x):
        found = _lbfgs.objective_and_gradient(digits_logits_fn, problem, x, c, settings)
        return found[:2]

    def solve_projected(*_):
        result = optimizers.minimize(values_and_gradients, images, 0.0, 1.0)
        return result.x, result.num_evaluations

    solvers = {
        "projected": jax.jit(solve_projected, static_argnums=4),
        "jax": jax.jit(solve_jax, static_argnums=4),
        "scipy": scipy_lbfgs.solve,
    }
    mean = {}
    for solver, solve in solvers.items():
        x, _ = solve(digits_logits_fn, problem, images, c, settings)
        assert x.min() >= 0
        assert x.max() <= 1
        values, _ = values_and_gradients(jnp.asarray(x))
        mean[solver] = float(values.mean())
    # A net has local minima. Without its penalty the solver of JAX is at 1.16.
    assert mean["projected"] <= 1.02 * mean["scipy"]
    assert mean["jax"] <= 1.1 * mean["scipy"]


def test_batch_mates_change_nothing(digits_logits_fn, digit_problems):
    images, _, wanted = digit_problems
    settings = {"targeted": True, "num_search_steps": 7}
    found = lbfgs_search(digits_logits_fn, images, wanted, **settings)
    others = images.at[5:].set(1 - images[5:])
    with_others = lbfgs_search(digits_logits_fn, others, wanted, **settings)
    for ours, theirs in zip(found, with_others, strict=True):
        np.testing.assert_array_equal(ours[:5], theirs[:5])


def test_loss_is_the_cross_entropy_of_what_is_wanted():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])) + 4
    labels = jnp.array([0, 2])
    rivals = jnp.array([2, 0])
    towards = _lbfgs.attack_loss(logits, labels, rivals, targeted=True)
    away = _lbfgs.attack_loss(logits, labels, rivals, targeted=False)
    np.testing.assert_allclose(towards, -np.log([0.7, 0.25]), rtol=1e-5)
    np.testing.assert_allclose(away, -np.log([1 / 8, 1 / 2]), rtol=1e-5)


def test_nearest_class_weighs_gaps_by_slopes_within_the_box():
    # One pixel per class; that of class 2 is at its upper edge and cannot help.
    slopes = jnp.array([1.0, 1.0, 9.0, 4.0])
    images = jnp.array([0.9, 0.5, 1.0, 0.2]).reshape(1, 1, 4, 1)

    def logits_fn(x):
        return slopes * (x.reshape(x.shape[0], -1) - jnp.array([0.0, 0.0, 0.95, 0.1]))

    # Gaps to class 0: 0.4, 0.45, 0.5; slopes sqrt(2), 1 (no box: sqrt(82)), sqrt(17)
    nearest = nearest_classes(logits_fn, images, jnp.array([0]), (0.0, 1.0))
    np.testing.assert_array_equal(nearest, [3])
    inside = nearest_classes(logits_fn, images, jnp.array([0]), (0.0, 1.1))
    np.testing.assert_array_equal(inside, [2])
