"""Test promises for every objective: feasible, frozen and independent problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import optimizers
from advgan_jax.optimizers import Options, Status


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


def _minimize(objective, x0, lower, upper, **options):
    run = jax.jit(
        lambda x: optimizers.minimize(_summed(objective), x, lower, upper, **options)
    )
    return run(x0)


def _kinked(x):
    """Not smooth and not convex, like a ReLU network: all branches get exercised."""
    weights = np.random.default_rng(3).normal(size=(x.shape[1], 40)).astype(x.dtype)
    features = jnp.abs(x @ weights - 0.3)
    return jnp.sum(jnp.sin(3 * features), axis=1) + 0.1 * jnp.sum(x**2, axis=1)


def test_every_evaluated_point_is_in_the_box_and_values_never_rise():
    points = []

    def value_and_grad(x):
        jax.debug.callback(lambda x: points.append(np.array(x)), x)
        return _summed(_kinked)(x)

    lower, upper = jnp.float32(-0.1), jnp.float32(0.7)
    options = Options(max_iterations=40)
    start = jax.jit(lambda x: optimizers.init(value_and_grad, x, lower, upper))
    state = start(jnp.full((8, 10), 5.0))
    advance = jax.jit(lambda state: optimizers.step(value_and_grad, state, options))
    values = [np.array(state.value)]
    evaluations = 1
    while np.any(optimizers.running(state)):
        state = advance(state)
        values.append(np.array(state.value))
        evaluations += 1
    jax.effects_barrier()
    points = np.stack(points)
    assert len(points) == evaluations == np.max(state.num_evaluations)
    assert points.min() >= lower
    assert points.max() <= upper
    assert np.any(points == lower)
    assert np.any(points == upper)
    assert np.all(np.diff(values, axis=0) <= 0)


def test_stopped_problems_are_frozen_bit_for_bit():
    x0 = jax.random.uniform(jax.random.key(5), (8, 10))
    options = Options(max_iterations=60)
    advance = jax.jit(lambda state: optimizers.step(_summed(_kinked), state, options))
    start = jax.jit(lambda x: optimizers.init(_summed(_kinked), x, 0.0, 1.0, options))
    state = start(x0)
    checked = 0
    while np.any(optimizers.running(state)):
        after = advance(state)
        stopped = ~np.asarray(optimizers.running(state))
        checked += stopped.sum()
        for old, new in zip(
            jax.tree.leaves(state), jax.tree.leaves(after), strict=True
        ):
            np.testing.assert_array_equal(old[stopped], new[stopped])
        state = after
    assert checked > 8


def test_after_a_failed_search_steepest_descent_replaces_the_memory():
    value_and_grad = _summed(lambda x: jnp.sum(jnp.cosh(x) + x, axis=1))
    options = Options(max_line_search=4)
    advance = jax.jit(lambda state: optimizers.step(value_and_grad, state, options))
    state = optimizers.init(value_and_grad, jnp.ones((2, 3)), -5.0, 5.0, options)
    state = advance(advance(state))
    # Pairs of a much flatter function: even the fourth, shortest trial is far beyond.
    far = state.memory.steps.at[0].multiply(1e6)
    state = state._replace(memory=state.memory._replace(steps=far))
    counts = [np.array(state.memory.count)]
    while np.any(optimizers.running(state)):
        state = advance(state)
        counts.append(np.array(state.memory.count))
    counts = np.array(counts)
    assert counts[0, 0] > 0
    np.testing.assert_array_equal(np.flatnonzero(counts[:, 0] == 0), [4])
    assert np.all(counts[:, 1] > 0)
    assert np.all(optimizers.converged(state))
    np.testing.assert_allclose(state.x, -np.arcsinh(1), atol=1e-4)


@pytest.mark.usefixtures("float64")
def test_results_do_not_depend_on_batch_mates():
    x0 = jax.random.uniform(jax.random.key(6), (8, 10))
    run = jax.jit(
        lambda x: optimizers.minimize(_summed(_kinked), x, 0.0, 1.0, max_iterations=15)
    )
    together, reordered = run(x0), run(x0[::-1])
    np.testing.assert_allclose(together.x, reordered.x[::-1], atol=1e-9)
    for i in (0, 5):
        alone = run(x0[i : i + 1])
        np.testing.assert_allclose(alone.x[0], together.x[i], atol=1e-9)
        assert alone.iterations[0] == together.iterations[i]
        assert alone.num_evaluations[0] == together.num_evaluations[i]


@pytest.mark.usefixtures("float64")
def test_vmap_scan_and_shard_map_agree_with_jit():
    x0 = jax.random.uniform(jax.random.key(7), (6, 10))
    lower = jnp.linspace(0.0, 0.3, 6)[:, None]

    def run(x, low):
        return optimizers.minimize(_summed(_kinked), x, low, 1.0, max_iterations=8)

    expected = jax.jit(run)(x0, lower)
    mesh = jax.make_mesh((1,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("b")
    pairs = (x0.reshape(2, 3, 10), lower.reshape(2, 3, 1))
    for result in (
        jax.jit(jax.vmap(run))(*pairs),
        jax.lax.scan(lambda _, pair: (None, run(*pair)), None, pairs)[1],
        jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec))(
            x0, lower
        ),
    ):
        np.testing.assert_allclose(
            result.x.reshape(6, 10), expected.x, rtol=1e-9, atol=1e-9
        )
        np.testing.assert_array_equal(result.status.ravel(), expected.status)


def test_one_trace_for_many_calls_also_with_traced_options():
    traces = []

    def value_and_grad(x):
        traces.append(None)
        return _summed(_kinked)(x)

    run = jax.jit(
        lambda x, high, limit: optimizers.minimize(
            value_and_grad, x, 0.0, high, max_iterations=limit
        )
    )
    first = run(jnp.full((2, 4), 0.4), 1.0, 7)
    counted = len(traces)
    second = run(jnp.full((2, 4), 0.2), 0.5, 3)
    assert len(traces) == counted
    assert np.max(first.iterations) <= 7
    assert np.max(second.iterations) <= 3
    assert np.all(second.x <= 0.5)


def test_another_objective_reuses_the_curvature_of_the_last():
    curvatures = jnp.geomspace(1.0, 300.0, 10)

    def summed(weight):
        return _summed(
            lambda x: jnp.sum(curvatures * (x - 0.3) ** 2 + weight * x**2, axis=1)
        )

    def solve(value_and_grad, state):
        return jax.lax.while_loop(
            lambda state: jnp.any(optimizers.running(state)),
            lambda state: optimizers.step(value_and_grad, state, options),
            state,
        )

    options = Options(value_tolerance=0)
    old, new = summed(1.0), summed(3.0)
    x0 = jnp.full((2, 10), 0.5)
    before = solve(old, optimizers.init(old, x0, -1.0, 1.0, options))
    changes = before.memory.gradient_changes + 4 * before.memory.steps
    chosen = jnp.array([True, False])
    revised = optimizers.revise(before, chosen, *new(before.x), changes, options)
    np.testing.assert_array_equal(revised.memory.gradient_changes[0], changes[0])
    jax.tree.map(
        lambda new, old: np.testing.assert_array_equal(new[1:], old[1:]),
        revised,
        before,
    )
    np.testing.assert_array_equal(optimizers.running(revised), [True, False])
    after = solve(new, revised)
    cold = solve(new, optimizers.init(new, before.x, -1.0, 1.0, options))
    # Values at a minimum agree but for rounding.
    np.testing.assert_allclose(after.value[0], cold.value[0], rtol=1e-6)
    again = after.num_evaluations[0] - before.num_evaluations[0]
    assert again < cold.num_evaluations[0]


def test_iteration_limit_and_no_iterations_at_all():
    x0 = jnp.zeros((2, 10))
    few = _minimize(_kinked, x0, -2.0, 2.0, max_iterations=3)
    np.testing.assert_array_equal(few.iterations, 3)
    np.testing.assert_array_equal(few.status, Status.ITERATION_LIMIT)
    none = _minimize(_kinked, x0 + 5, -2.0, 2.0, max_iterations=0)
    np.testing.assert_array_equal(none.x, 2.0)
    np.testing.assert_array_equal(none.status, Status.ITERATION_LIMIT)
    np.testing.assert_array_equal(none.num_evaluations, 1)
    assert not np.any(optimizers.converged(none))


def test_an_empty_batch_gives_an_empty_result():
    assert _minimize(_kinked, jnp.zeros((0, 10)), 0.0, 1.0).x.shape == (0, 10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"x0": np.zeros((2, 3), np.int32)},
            TypeError,
            "float32 or float64, got int32",
        ),
        ({"x0": jnp.zeros((2, 3), jnp.bfloat16)}, TypeError, "got bfloat16"),
        ({"x0": np.zeros(3, np.float32)}, ValueError, "add an axis"),
        ({"lower": 2.0}, ValueError, "exchanged"),
        ({"upper": np.nan}, ValueError, "NaN"),
        ({"lower": np.zeros((3, 2))}, ValueError, r"`lower` must broadcast.*\(2, 3\)"),
        ({"upper": np.ones((4, 2, 3))}, ValueError, "`upper` must broadcast"),
        ({"memory": 0}, ValueError, "`memory`"),
        ({"max_iterations": -1}, ValueError, "`max_iterations`"),
        ({"max_line_search": 0}, ValueError, "`max_line_search`"),
        ({"gradient_tolerance": -1.0}, ValueError, "`gradient_tolerance`"),
        ({"value_tolerance": np.nan}, ValueError, "`value_tolerance`"),
        (
            {"value_and_grad": lambda x: (jnp.sum(x), x)},
            ValueError,
            r"values of shape \(2,\), got \(\)",
        ),
        (
            {"value_and_grad": lambda x: (jnp.sum(x, 1), x.astype(jnp.bfloat16))},
            TypeError,
            "gradients of `x0`'s dtype",
        ),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {
        "value_and_grad": _summed(_kinked),
        "x0": np.zeros((2, 3), np.float32),
        "lower": 0.0,
        "upper": 1.0,
    }
    with pytest.raises(error, match=message):
        optimizers.minimize(**(arguments | change))
