"""Compare values and gradients of our layers with those of Flax and JAX."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from advgan_jax.cpu import layers
from advgan_jax.cpu.conv2d import conv2d

_CORE = "advgan_jax.cpu.conv2d"  # the package exports a function of the same name

# strides, padding, input dilation, kernel size, image size
GEOMETRIES = {
    "valid": ((1, 1), "VALID", (1, 1), 3, 9),
    "strided same": ((2, 2), "SAME", (1, 1), 8, 28),
    "strided valid": ((2, 2), "VALID", (1, 1), 6, 14),
    "fractional": ((1, 1), ((1, 2), (1, 2)), (2, 2), 3, 7),
    "strided odd": ((2, 2), "SAME", (1, 1), 3, 7),
    "strided leaving rows": ((3, 3), "VALID", (1, 1), 2, 10),
    "strides unequal": ((3, 2), ((0, 2), (1, 0)), (1, 1), 3, 9),
    "fractional unequal": ((1, 1), ((0, 2), (3, 1)), (3, 1), 4, 6),
    "fractional by 3": ((1, 1), ((2, 2), (4, 0)), (3, 3), 5, 4),
    "both": ((3, 2), ((0, 2), (1, 0)), (2, 1), 3, 9),
    "cropped": ((1, 1), ((-1, -2), (0, -1)), (1, 1), 3, 9),
    "large valid": ((1, 1), "VALID", (1, 1), 3, 30),
    "pointwise": ((2, 2), "SAME", (1, 1), 1, 5),
    "pointwise padded": ((2, 2), ((0, 3), (1, 4)), (1, 1), 1, 5),
    "strided much padded": ((2, 2), ((-1, 5), (2, -2)), (1, 1), 3, 9),
    "large same": ((1, 1), "SAME", (1, 1), 3, 30),
}


FEW = ("valid", "strided same", "fractional", "cropped")
RARE = ("strided valid", "strided odd", "strided leaving rows", "strides unequal")
RARE += ("fractional by 3", "pointwise padded", "strided much padded")
# Channels and filters: few of either, and on both sides of the limits.
NUMBERS = ((1, 4), (1, 9), (1, 17), (3, 32), (2, 33), (16, 1), (1, 1))


@pytest.mark.parametrize(
    ("name", "channels", "filters"),
    [(name, 2, 5) for name in (*FEW, "both", "fractional unequal", "pointwise")]
    + [
        pytest.param(name, *numbers, marks=pytest.mark.slow)
        for name in FEW
        for numbers in NUMBERS
    ]
    + [pytest.param(name, 2, 5, marks=pytest.mark.slow) for name in RARE],
)
def test_convolution_equals_lax(name, channels, filters):
    _compare_with_lax(name, channels, filters)


@pytest.mark.parametrize("cores", [1, 8])
@pytest.mark.parametrize("name", ["large valid", "large same"])
def test_large_convolution_equals_lax(name, cores, monkeypatch):
    monkeypatch.setattr(importlib.import_module(_CORE), "num_cores", lambda: cores)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    # From 10^8 products on, the number of cores selects the algorithm.
    _compare_with_lax(name, 48, 96)


@pytest.mark.parametrize(
    ("padding", "devices", "rows", "columns"),
    [
        (((0, 0), (0, 0)), 1, 25, 28),
        (((0, 0), (0, 0)), 4, 25, 28),
        (((0, 0), (0, 0)), 8, 25, 26),
        (((1, 1), (1, 1)), 1, 27, 28),
        (((1, 1), (1, 1)), 8, 27, 27),
        (((2, 1), (0, 0)), 1, 28, 25),
    ],
)
def test_columns_are_wasted_where_a_device_has_several_cores(
    padding, devices, rows, columns, monkeypatch
):
    monkeypatch.setattr(importlib.import_module(_CORE), "num_cores", lambda: 8)
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    batch = 64 * devices  # JAX caches traces by shape
    x = jax.ShapeDtypeStruct((batch, 27, 27, 32), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 32, 32), jnp.float32)
    convolve = jax.make_jaxpr(conv2d, static_argnums=2)
    program = convolve(x, kernel, padding).pretty_print(use_color=False)
    (line,) = (line for line in program.splitlines() if "conv_general" in line)
    assert f"f32[{batch},{rows},{columns},32]" in line


def _compare_with_lax(name, channels, filters):
    strides, padding, dilation, window, size = GEOMETRIES[name]
    key_x, key_k = jax.random.split(jax.random.key(0))
    x = jax.random.normal(key_x, (3, size, size, channels))
    kernel = jax.random.normal(key_k, (window, window, channels, filters))

    def value_and_gradients(conv):
        def loss(x, kernel):
            y = conv(
                x,
                kernel,
                strides,
                padding,
                lhs_dilation=dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            return jnp.sum(jnp.sin(y)), y

        compute = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        (_, y), gradients = compute(x, kernel)
        return y, *gradients

    ours = value_and_gradients(layers.conv_general_dilated)
    theirs = value_and_gradients(lax.conv_general_dilated)
    for a, b in zip(ours, theirs, strict=True):
        # Sums of at most a few thousand float32 products, in another order.
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


def test_flax_layer_uses_the_convolution_and_keeps_its_parameters():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    ours, stock = layers.Conv(4, (3, 3)), nn.Conv(4, (3, 3))
    variables = stock.init(jax.random.key(1), x)
    np.testing.assert_allclose(
        ours.apply(variables, x), stock.apply(variables, x), atol=1e-6
    )
    jaxpr = str(jax.make_jaxpr(lambda x: ours.apply(variables, x))(x))
    assert ("custom_vjp" in jaxpr) == (jax.default_backend() == "cpu")


def test_convolution_of_another_layout_stays_with_jax():
    x = jnp.ones((1, 2, 6, 6))
    kernel = jnp.ones((3, 2, 3, 3))
    y = layers.conv_general_dilated(x, kernel, (1, 1), "VALID")
    np.testing.assert_array_equal(
        y, lax.conv_general_dilated(x, kernel, (1, 1), "VALID")
    )


@pytest.mark.parametrize("values", [1000, 3])
@pytest.mark.parametrize(("size", "window"), [(8, 2), (9, 2), (10, 3)])
def test_max_pool_equals_flax(size, window, values):
    """Of equal entries, of which few values have many, the first has the gradient."""
    shape = (2, size, size, 3)
    x = jax.random.randint(jax.random.key(0), shape, 0, values).astype(jnp.float32)

    def stock(x):
        return nn.max_pool(x, (window, window), (window, window))

    def gradient(pool):
        return jax.grad(lambda x: jnp.sum((1 + pool(x)) ** 2))(x)

    def ours(x):
        return layers.max_pool(x, window)

    np.testing.assert_array_equal(ours(x), stock(x))
    np.testing.assert_array_equal(gradient(ours), gradient(stock))
    x = x.at[0, 0, 0].set(jnp.nan)
    np.testing.assert_array_equal(ours(x), stock(x))


@pytest.mark.parametrize("filters", [4, 32])
def test_a_pool_computes_the_convolution_before_it_once(filters):
    """Pad once, and not in each part of the gradient."""
    if jax.default_backend() != "cpu":
        pytest.skip("that is how XLA works on a CPU")

    @jax.jit
    @jax.grad
    def gradient(images, kernel):
        features = nn.relu(conv2d(images, kernel))
        return jnp.sum(layers.max_pool(features, 2) ** 2)

    images, kernel = jnp.ones((6, 12, 12, 1)), jnp.ones((5, 5, 1, filters))
    program = gradient.lower(images, kernel).compile().as_text()
    # The convolution, as a product or unchanged, and the gradient of its kernel.
    assert program.count(" dot(") + program.count(" convolution(") == 2


@pytest.mark.parametrize("batch", [0, 1, 2, 5])
def test_one_channel_in_batches_of_all_kinds(batch):
    images = jax.random.uniform(jax.random.key(0), (batch, 7, 7, 1))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))
    expected = lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    made = conv2d(images, kernel)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(
    ("channels", "filters"),
    [(1, 8), (1, 32), (8, 1), (8, 16)],
    ids=["one", "first", "few", "many"],
)
def test_bfloat16_is_summed_up_in_float32(channels, filters):
    """Round values and gradients once, at the end."""
    key_x, key_k = jax.random.split(jax.random.key(0))
    x = jax.random.normal(key_x, (256, 16, 16, channels), jnp.bfloat16)
    kernel = jax.random.normal(key_k, (3, 3, channels, filters), jnp.bfloat16)
    # The slopes are exact in bfloat16, so nothing else is rounded.
    slopes = jax.random.normal(jax.random.key(1), (256, 14, 14, filters), jnp.bfloat16)

    @jax.jit
    def found(x, kernel, slopes):
        y, pull_back = jax.vjp(conv2d, x, kernel)
        return y, *pull_back(slopes)

    given = (x, kernel, slopes)
    # Cast here, because a compiled program might skip the rounding to bfloat16.
    ours, exact = found(*given), found(*(a.astype(jnp.float32) for a in given))
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == jnp.bfloat16
        error = np.linalg.norm(a.astype(jnp.float32) - b) / np.linalg.norm(b)
        # Rounding to eight bits changes a number by at most a share of 2^-9.
        assert error < 2**-9
