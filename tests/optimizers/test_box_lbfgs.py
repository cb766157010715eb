"""Test the optimiser against exact answers and the L-BFGS-B of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from advgan_jax import optimizers
from advgan_jax.optimizers import Status

TIGHT = {
    "max_iterations": 2000,
    "gradient_tolerance": 1e-9,
    "value_tolerance": 1e-16,
}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def _summed(objective):
    """Values and gradients of `x [B, ...] -> [B]`, whose rows are independent."""

    def value_and_grad(x):
        value, pull = jax.vjp(objective, x)
        return value, pull(jnp.ones_like(value))[0]

    return value_and_grad


def _rosenbrock(x):
    return jnp.sum(
        100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2, axis=1
    )


def _styblinski_tang(x):
    return jnp.mean(x**4 - 16 * x**2 + 5 * x, axis=1) / 2


def _quadratics(seed, batch, size, *, condition=100.0):
    """Strictly convex `x^T A x / 2 + b^T x` with many bounds of [-1, 1] active."""
    rng = np.random.default_rng(seed)
    bases = np.linalg.qr(rng.normal(size=(batch, size, size)))[0]
    a = (bases * np.geomspace(1, condition, size)) @ bases.transpose(0, 2, 1)
    b = rng.normal(size=(batch, size)) * 30

    def objective(x):
        return jnp.einsum("bi,bij,bj->b", x, a.astype(x.dtype), x) / 2 + jnp.sum(
            b.astype(x.dtype) * x, axis=1
        )

    return objective, a, b


def _minimize(objective, x0, lower, upper, **options):
    run = jax.jit(
        lambda x: optimizers.minimize(_summed(objective), x, lower, upper, **options)
    )
    return run(x0)


def _scipy(objective, x0, lower, upper):
    """SciPy's minimum values, problem by problem; `objective` must not mix rows."""
    evaluate = jax.jit(_summed(objective))
    x0 = np.array(x0)
    values = []
    for i in range(len(x0)):

        def one(row, i=i):
            value, gradient = evaluate(jnp.asarray(x0).at[i].set(row))
            return float(value[i]), np.asarray(gradient[i], np.float64)

        result = optimize.minimize(
            one,
            x0[i],
            jac=True,
            method="L-BFGS-B",
            bounds=[(lower, upper)] * x0.shape[1],
            options={"maxiter": 2000, "maxfun": 9999, "ftol": 1e-16, "gtol": 1e-9},
        )
        values.append(result.fun)
    return np.array(values)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("batch", "size"), [(1, 30), (3, 1), (8, 30)])
def test_convex_problems_reach_scipys_minimum_and_the_kkt_point(batch, size):
    objective, a, b = _quadratics(size, batch, size)
    x0 = jnp.zeros((batch, size))
    result = _minimize(objective, x0, -1.0, 1.0, **TIGHT)
    assert np.all(optimizers.converged(result))
    scipys = _scipy(objective, x0, -1.0, 1.0)
    np.testing.assert_allclose(result.value, scipys, rtol=1e-9, atol=1e-9)

    x = np.asarray(result.x)
    for i in range(batch):
        # With the active set known, the free variables solve a linear system exactly.
        held = np.abs(x[i]) == 1
        exact = np.sign(x[i]) * held
        rest = b[i] + a[i] @ exact
        exact[~held] = np.linalg.solve(a[i][~held][:, ~held], -rest[~held])
        # Within sqrt(eps |f|) of the minimum the values are equal but for rounding.
        np.testing.assert_allclose(x[i], exact, atol=1e-6)
        pushes_outwards = -np.sign(x[i]) * (a[i] @ exact + b[i])
        assert np.all(pushes_outwards[held] >= 0)
        assert size == 1 or 0 < held.sum() < size


def test_float32_reaches_the_minimum_of_float64_within_rounding():
    objective, _, _ = _quadratics(0, 8, 30)
    result = _minimize(objective, jnp.zeros((8, 30), jnp.float32), -1.0, 1.0)
    assert result.x.dtype == result.value.dtype == jnp.float32
    assert np.all(optimizers.converged(result))
    with jax.enable_x64(True):
        exact = _minimize(objective, jnp.zeros((8, 30)), -1.0, 1.0, **TIGHT).value
    # Values are sums of 900 products: an error of a few dozen float32 roundings.
    np.testing.assert_allclose(result.value, exact, rtol=30 * 1.2e-7)


@pytest.mark.usefixtures("float64")
def test_rosenbrock_is_solved_as_well_as_by_scipy():
    x0 = jax.random.uniform(jax.random.key(0), (9, 40), minval=-2.0, maxval=0.8)
    # The last problem has the global minimum, all ones, within its box.
    x0 = x0.at[8].set(0.0)
    upper = jnp.full((9, 1), 0.8).at[8].set(2.0)
    ours = _minimize(_rosenbrock, x0, -2.0, upper, **TIGHT)
    assert np.all(optimizers.converged(ours))
    np.testing.assert_allclose(ours.x[8], 1.0, atol=1e-6)
    # Both find one of a few local minima, 6 % apart, and neither the better ones.
    scipys = _scipy(_rosenbrock, x0[:8], -2.0, 0.8)
    assert np.median(ours.value[:8]) <= np.median(scipys) * 1.0001
    assert np.mean(ours.value[:8]) <= np.mean(scipys) * 1.02


@pytest.mark.usefixtures("float64")
def test_styblinski_tang_is_solved_as_well_as_by_scipy():
    x0 = jax.random.uniform(jax.random.key(1), (8, 40), minval=-2.0, maxval=2.0)
    ours = _minimize(_styblinski_tang, x0, -2.0, 2.0, **TIGHT)
    scipys = _scipy(_styblinski_tang, x0, -2.0, 2.0)
    # Within [-2, 2] each variable goes to the bound of its own basin.
    np.testing.assert_allclose(ours.value, scipys, rtol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 5), (8, 2, 3, 1)])
def test_without_bounds_and_with_any_trailing_shape(shape):
    centre = np.random.default_rng(2).normal(size=shape)
    axes = tuple(range(1, len(shape)))
    objective = lambda x: jnp.sum(jnp.cosh(x - centre) - 1, axis=axes)  # noqa: E731
    result = _minimize(objective, jnp.zeros(shape), -jnp.inf, jnp.inf, **TIGHT)
    assert result.x.shape == shape
    np.testing.assert_allclose(result.x, centre, atol=1e-7)
    for field in result[1:]:
        assert field.shape == shape[:1]


def test_bounds_per_problem_and_one_sided():
    lower = jnp.array([[0.0], [2.0], [-jnp.inf]])
    upper = jnp.array([[jnp.inf], [3.0], [-1.0]])
    objective = lambda x: jnp.sum((x - 1) ** 2, axis=1)  # noqa: E731
    result = _minimize(objective, jnp.zeros((3, 2)), lower, upper)
    np.testing.assert_allclose(result.x, [[1, 1], [2, 2], [-1, -1]], atol=1e-5)


def test_fixed_variables_stay_and_an_empty_box_ends_at_once():
    lower = jnp.array([[0.5, -1.0], [0.25, 0.25]])
    upper = jnp.array([[0.5, 1.0], [0.25, 0.25]])
    objective = lambda x: jnp.sum((x + 0.5) ** 2, axis=1)  # noqa: E731
    result = _minimize(objective, jnp.zeros((2, 2)), lower, upper)
    np.testing.assert_allclose(result.x, [[0.5, -0.5], [0.25, 0.25]], atol=1e-5)
    assert result.iterations[1] == 0
    assert result.status[1] == Status.GRADIENT_CONVERGED


def test_optimal_and_flat_starts_end_without_a_step():
    objective = lambda x: jnp.array([1.0, 0.0]) * jnp.sum(x**2, axis=1)  # noqa: E731
    x0 = jnp.array([[0.0, 0.0], [0.3, -0.2]])
    result = _minimize(objective, x0, -1.0, 1.0)
    np.testing.assert_array_equal(result.x, x0)
    np.testing.assert_array_equal(result.num_evaluations, 1)
    np.testing.assert_array_equal(result.status, Status.GRADIENT_CONVERGED)


def test_the_usual_iteration_costs_one_evaluation():
    objective, _, _ = _quadratics(3, 8, 30)
    result = _minimize(objective, jnp.zeros((8, 30)), -1.0, 1.0)
    assert np.sum(result.num_evaluations) < 1.25 * np.sum(result.iterations) + 8


def _logarithm(x):
    """NaN for `x < 0`, minimum at 0.01: the first long steps fall off the edge."""
    return jnp.sum(x - 0.01 * jnp.log(x), axis=1)


@pytest.mark.usefixtures("float64")
def test_values_that_are_not_finite_are_failed_trials():
    beyond = np.array([np.nan, np.inf, -np.inf])

    def objective(x):
        inside = jnp.all(x > 0, axis=1)
        return jnp.where(inside, _logarithm(jnp.where(x > 0, x, 1)), beyond)

    result = _minimize(objective, jnp.full((3, 3), 0.9), -5.0, 5.0, **TIGHT)
    assert np.all(optimizers.converged(result))
    np.testing.assert_allclose(result.x, 0.01, atol=1e-7)


def test_gradients_that_are_not_finite_are_failed_trials():
    def value_and_grad(x):
        gradient = jnp.where(x < 0.4, jnp.nan, 2 * x)
        return jnp.sum(x**2, axis=1), gradient

    run = jax.jit(lambda x: optimizers.minimize(value_and_grad, x, -1.0, 1.0))
    result = run(jnp.ones((1, 2)))
    assert np.all(result.x >= 0.4)
    assert result.value[0] < 2 * 0.41**2
    assert np.isfinite(result.projected_gradient_norm[0])


def test_a_start_that_is_not_finite_is_reported_and_harms_no_batch_mate():
    objective = lambda x: jnp.sum(jnp.sqrt(x) + x**2, axis=1)  # noqa: E731
    result = _minimize(objective, jnp.array([[-1.0], [0.5]]), -1.0, 1.0)
    assert result.status[0] == Status.NON_FINITE_START
    assert result.iterations[0] == 0
    assert result.value[1] < 0.1


def test_wrong_gradients_end_in_a_failed_line_search_at_the_start():
    def value_and_grad(x):
        return jnp.sum(x**2, axis=1), -2 * x

    x0 = jnp.full((1, 2), 0.5)
    result = optimizers.minimize(value_and_grad, x0, -1.0, 1.0, max_line_search=5)
    assert result.status[0] == Status.LINE_SEARCH_FAILED
    assert result.num_evaluations[0] == 6
    np.testing.assert_array_equal(result.x, x0)


def test_huge_and_tiny_objectives_are_solved_alike():
    scale = np.float32([1e-12, 1e-6, 1.0, 1e15])
    objective = lambda x: scale * jnp.sum((x - 0.3) ** 2, axis=1)  # noqa: E731
    result = _minimize(
        objective, jnp.ones((4, 5)), 0.0, 1.0, gradient_tolerance=0.0, value_tolerance=0
    )
    np.testing.assert_allclose(result.x, 0.3, atol=1e-3)
