"""Test the limited memory against the dense BFGS recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax.optimizers import two_loop

SIZE = 3
NUM_VARIABLES = 6


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def _pairs(seed, count):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(NUM_VARIABLES, NUM_VARIABLES))
    hessian = root @ root.T + np.eye(NUM_VARIABLES)
    steps = rng.normal(size=(count, NUM_VARIABLES))
    return [(s, hessian @ s) for s in steps]


def _dense_inverse(pairs):
    """Return the BFGS inverse Hessian from `gamma I`, as in its definition."""
    s, y = pairs[-1]
    identity = np.eye(len(s))
    inverse = (s @ y) / (y @ y) * identity
    for s, y in pairs:
        rho = 1 / (s @ y)
        left = identity - rho * np.outer(s, y)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)
    return inverse


def _memory_of(batch):
    """Fill memories of `SIZE` slots; problem `i` gets the pairs `batch[i]` in turn."""
    memory = two_loop.empty_memory(jnp.zeros((len(batch), NUM_VARIABLES)), SIZE)
    for k in range(max(map(len, batch))):
        has = jnp.array([k < len(pairs) for pairs in batch])
        s, y = (
            jnp.stack([pairs[min(k, len(pairs) - 1)][part] for pairs in batch])
            for part in (0, 1)
        )
        memory = two_loop.push(memory, s, y, has)
    return memory


def test_product_is_that_of_the_last_pairs_in_time_order_after_the_memory_wraps():
    # 5 and 7 are no multiples of 3: a ring buffer read in slot order is wrong there.
    batch = [_pairs(0, 2), _pairs(1, 3), _pairs(2, 5), _pairs(3, 7)]
    memory = _memory_of(batch)
    vector = jnp.asarray(np.random.default_rng(9).normal(size=(4, NUM_VARIABLES)))
    free = jnp.ones(vector.shape, bool)
    product = two_loop.inverse_hessian_product(memory, vector, free, jnp.ones(4))
    for i, pairs in enumerate(batch):
        expected = _dense_inverse(pairs[-SIZE:]) @ np.asarray(vector[i])
        np.testing.assert_allclose(product[i], expected, rtol=1e-9)
    np.testing.assert_array_equal(memory.count, [2, 3, 3, 3])


def test_product_is_that_of_the_pairs_cut_to_the_free_variables():
    pairs = _pairs(4, 5)
    free = np.array([True, False, True, True, False, True])
    vector = np.random.default_rng(10).normal(size=NUM_VARIABLES)
    product = two_loop.inverse_hessian_product(
        _memory_of([pairs]), jnp.array([vector]), jnp.array([free]), jnp.ones(1)
    )[0]
    cut = [(s[free], y[free]) for s, y in pairs[-SIZE:]]
    usable = [(s, y) for s, y in cut if s @ y > 0]
    np.testing.assert_allclose(
        product[free], _dense_inverse(usable) @ vector[free], rtol=1e-9
    )
    np.testing.assert_array_equal(product[~free], 0)


def test_empty_memory_scales_and_clear_empties_only_the_chosen():
    batch = [_pairs(5, 2), _pairs(6, 2)]
    full = _memory_of(batch)
    half = two_loop.clear(full, jnp.array([True, False]))
    vector = jnp.ones((2, NUM_VARIABLES))
    free = jnp.ones(vector.shape, bool)
    scale = jnp.array([3.0, 5.0])
    product = two_loop.inverse_hessian_product(half, vector, free, scale)
    np.testing.assert_array_equal(product[0], 3.0)
    before = two_loop.inverse_hessian_product(full, vector, free, scale)
    np.testing.assert_array_equal(product[1], before[1])
    np.testing.assert_array_equal(half.count, [0, 2])


@pytest.mark.parametrize("bad", ["orthogonal", "negative", "zero", "underflow"])
def test_pairs_without_curvature_change_nothing(bad):
    good = _pairs(7, 2)
    s = np.eye(NUM_VARIABLES)[0]
    y = {
        "orthogonal": np.eye(NUM_VARIABLES)[1] + 1e-17 * s,
        "negative": -s,
        "zero": 0 * s,
        "underflow": 1e-200 * s,
    }[bad]
    vector = jnp.ones((1, NUM_VARIABLES))
    free = jnp.ones(vector.shape, bool)
    products = [
        two_loop.inverse_hessian_product(_memory_of([p]), vector, free, jnp.ones(1))
        for p in (good, [*good, (s, y)])
    ]
    np.testing.assert_array_equal(products[0], products[1])
    assert not two_loop.has_curvature(jnp.array([s]), jnp.array([y]))[0]
