"""Test loops, and stock models prepared for them."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import models
from advgan_jax.cpu import loops


class StockNet(nn.Module):
    """A user's model: Flax' own layers, a custom gradient, a nested jit."""

    pool_padding: str = "VALID"

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2), self.pool_padding)
        x = jax.jit(nn.silu)(nn.Conv(4, (3, 3), feature_group_count=2)(x))
        x = nn.avg_pool(x, (2, 2))
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


@pytest.fixture(params=["VALID", "SAME"])
def stock(request):
    net = StockNet(request.param)
    images = jax.random.uniform(jax.random.key(0), (3, 9, 9, 2))
    variables = jax.jit(net.init)(jax.random.key(1), images)
    return lambda x: net.apply(variables, x), images


def test_repeat_counts():
    assert loops.repeat(lambda x: x + 2, jnp.int32(1), 5) == 11
    assert loops.repeat(lambda x: x + 2, jnp.int32(1), 0) == 1


def test_loop_ready_keeps_values_and_gradients(stock):
    logits_fn, images = stock
    ready = loops.loop_ready(logits_fn)
    np.testing.assert_allclose(
        jax.jit(ready)(images), jax.jit(logits_fn)(images), atol=1e-6
    )

    def gradient(fn):
        return jax.jit(jax.grad(lambda x: jnp.sum(fn(x) ** 2)))(images)

    np.testing.assert_allclose(gradient(ready), gradient(logits_fn), atol=1e-5)


def test_loop_ready_replaces_what_is_slow(stock):
    logits_fn, images = stock
    if jax.default_backend() != "cpu":
        pytest.skip("the replacement is for CPU only")
    before = str(jax.make_jaxpr(logits_fn)(images))
    after = str(jax.make_jaxpr(loops.loop_ready(logits_fn))(images))
    assert "custom_vjp_call" not in before
    assert "custom_vjp_call" in after
    # The grouped convolution has no equivalent in `layers` and must stay.
    assert "feature_group_count=2" in after
    # A padded pool must stay too.
    padded = "padding=((0, 0), (0, 1), (0, 1), (0, 0))" in before
    assert ("reduce_window_max" in after) == padded


def test_loop_ready_works_under_transformations(stock):
    logits_fn, images = stock
    ready = loops.loop_ready(logits_fn)
    stacked = jnp.stack([images, images[::-1]])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(ready))(stacked),
        jax.jit(jax.vmap(logits_fn))(stacked),
        atol=1e-5,
    )


@pytest.mark.parametrize("shape", [(9,), (5, 4, 3)], ids=["audio", "video"])
def test_loop_ready_keeps_layers_of_other_ranks(shape):
    window = (2,) * len(shape)

    class Small(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.max_pool(nn.Conv(4, window)(x), window, window)
            return nn.Dense(3)(x.reshape(len(x), -1))

    x = jax.random.normal(jax.random.key(0), (2, *shape, 2))
    logits, variables = Small().init_with_output(jax.random.key(1), x)
    ready = jax.jit(loops.loop_ready(partial(Small().apply, variables)))
    # Other fusions round otherwise.
    np.testing.assert_allclose(ready(x), logits, atol=1e-6)


def test_loop_ready_keeps_custom_gradients():
    @jax.custom_vjp
    def reversed_gradient(x):
        return x

    reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))
    ready = loops.loop_ready(lambda x: 3 * reversed_gradient(x))
    assert jax.grad(lambda x: ready(x).sum())(jnp.ones(2)).tolist() == [-3, -3]


@pytest.mark.parametrize("count", [1, 256, 257, 700])
def test_blocks_make_what_the_whole_batch_makes(count):
    images = jax.random.uniform(jax.random.key(0), (count, 28, 28, 1))
    labels = jnp.arange(count)
    seen = []

    def fn(images, labels):
        seen.append(len(images))
        return images * labels[:, None, None, None]

    made = jax.jit(lambda *args: loops.in_blocks(fn, *args))(images, labels)
    np.testing.assert_array_equal(made, fn(images, labels))
    if jax.default_backend() == "cpu":
        # No block contains more than 256 of these images.
        assert seen[0] == {1: 1, 256: 256, 257: 129, 700: 175}[count]


def test_an_image_beyond_the_size_of_a_block_is_a_block():
    images = jnp.ones((3, 600, 600, 1))
    made = loops.in_blocks(lambda x: x + len(x), images)
    expected = 2 if jax.default_backend() == "cpu" else 4
    np.testing.assert_array_equal(made, jnp.full_like(images, expected))


def test_no_block_holds_more_than_its_share_of_pixels():
    if jax.default_backend() != "cpu":
        pytest.skip("blocks are for CPU only")
    made = loops.in_blocks(lambda x: x + len(x), jnp.zeros((10, 299, 299, 1)))
    np.testing.assert_array_equal(made, jnp.full_like(made, 2))


@pytest.mark.slow
def test_a_batch_of_any_size_can_be_exported():
    """Return a generator, and a classifier's gradient as an attack computes it."""
    generator = models.Generator(0.3, widths=(4, 8, 8), num_residual=1)
    model = models.ModelC(widths=(4, 8), hidden=16)
    key, one = jax.random.key(0), jnp.zeros((1, 16, 16, 1))
    weights = jax.jit(generator.init)(key, one), jax.jit(model.init)(key, one)

    def generate(images):
        return loops.in_blocks(partial(generator.apply, weights[0]), images)

    def gradient(images):
        return jax.grad(lambda x: model.apply(weights[1], x).sum())(images)

    shape = jax.export.symbolic_shape("b, 16, 16, 1")
    for fn in (generate, gradient):
        exported = jax.export.export(jax.jit(fn))(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        for count in (1, 300):
            images = jax.random.uniform(key, (count, 16, 16, 1))
            made = jax.jit(exported.call)(images)
            # Sums of thousands of float32 products, in another order.
            np.testing.assert_allclose(made, jax.jit(fn)(images), atol=1e-5)


SPREAD = """
    import sys
    import jax, numpy as np
    from jax.sharding import PartitionSpec
    from advgan_jax import models
    from advgan_jax.cpu import loops

    number = jax.device_count()
    assert number == int(sys.argv[1])
    auto = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((number,), ("b",), axis_types=(auto,))
    # Two blocks for two devices; four devices need five, of 52 images each.
    images = np.random.default_rng(0).random((260, 28, 28, 1), np.float32)
    rows = jax.NamedSharding(mesh, PartitionSpec("b"))
    spread = jax.device_put(images, rows)
    model = models.make_classifier("madry", 10)
    generator = models.Generator(epsilon=0.3)
    key = jax.random.key(0)
    weights = [jax.jit(m.init)(key, images[:1]) for m in (model, generator)]

    def gradient(images):
        return jax.grad(lambda x: model.apply(weights[0], x).sum())(images)

    def generate(images):
        return loops.in_blocks(lambda x: generator.apply(weights[1], x), images)

    for fn in (gradient, generate):
        program = jax.jit(fn).lower(spread).compile()
        text = program.as_text()
        for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"):
            assert word not in text, (fn.__name__, word)
        made = program(spread)
        assert made.sharding.is_equivalent_to(rows, made.ndim)
        np.testing.assert_allclose(made, jax.jit(fn)(images), atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.multi_device
@pytest.mark.parametrize("devices", [2, 4])
def test_a_batch_on_several_devices_stays_where_it_is(on_devices, devices):
    """Blocks of sharded rows move no images between devices."""
    on_devices(devices, SPREAD, devices)


@pytest.mark.parametrize(
    ("num_problems", "num_lanes"), [(1, 1), (16, 16), (20, 10), (33, 11), (500, 16)]
)
def test_the_lanes_of_a_cpu_are_filled_evenly(num_problems, num_lanes):
    assert loops.num_lanes(num_problems) == num_lanes
