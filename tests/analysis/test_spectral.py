"""Bounds of layers against dense matrices, and of models against what is measured."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import analysis, models
from advgan_jax.analysis import norms
from advgan_jax.cpu.layers import max_pool

KEY = jax.random.key(0)
IMAGE = jnp.ones((1, 4, 4, 1))


def matrix(fn, shape):
    """The dense matrix of a linear function, float64, `[outputs, inputs]`."""
    size = int(np.prod(shape))
    basis = jnp.eye(size).reshape(size, 1, *shape)
    columns = jax.vmap(fn)(basis)
    return np.asarray(columns, np.float64).reshape(size, -1).T


def exact_norm(fn, shape):
    return np.linalg.norm(matrix(fn, shape), 2)


def drawn_variables(model, images):
    """Weights and statistics as after training; `init` compiles for 20 seconds."""
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        name = path[-1].key
        if name in ("mean", "bias"):
            values = rng.uniform(-0.1, 0.1, leaf.shape)
        elif name in ("var", "scale"):
            values = rng.uniform(0.5, 2, leaf.shape)
        else:
            values = rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
        return values.astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map_with_path(drawn, shapes)


@pytest.fixture
def kernel():
    return np.random.default_rng(0).standard_normal((5, 3, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
class TestConvolutionAgainstItsMatrix:
    def test_circular_is_exact(self, kernel, stride):
        grid = (12, 12)

        def wrapped(x):
            around = jnp.pad(x, ((0, 0), (0, 4), (0, 2), (0, 0)), mode="wrap")
            return jax.lax.conv_general_dilated(
                around,
                kernel,
                (stride, stride),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )

        exact = exact_norm(wrapped, (*grid, 2))
        ours = analysis.conv_norm(kernel, strides=(stride, stride), grid=grid)
        # The matrix holds the float32 kernel itself; both norms are in double.
        assert ours == pytest.approx(exact, rel=1e-12)

    @pytest.mark.parametrize("padding", ["SAME", "VALID", ((3, 1), (0, 2))])
    @pytest.mark.parametrize("size", [(9, 10), (13, 8)])
    def test_zero_padding_is_bounded(self, kernel, stride, padding, size):
        model = nn.Conv(3, (5, 3), strides=stride, padding=padding, use_bias=False)
        variables = {"params": {"kernel": jnp.asarray(kernel)}}
        bounds = analysis.upper_bounds(model, variables, (*size, 2))
        (layer,) = bounds.layers
        exact = exact_norm(lambda x: model.apply(variables, x), (*size, 2))
        assert layer.stride == stride
        assert layer.bound == bounds.network
        # 1e-6: Flax computes the columns of the matrix in float32.
        assert layer.bound >= exact * (1 - 1e-6)
        # A useful bound too; the worst of these cases is 1.31 times the norm.
        assert layer.bound <= 1.35 * exact


def test_two_strides_and_a_dilated_kernel(kernel):
    model = nn.Conv(3, (5, 3), strides=(2, 3), kernel_dilation=(1, 2), use_bias=False)
    variables = {"params": {"kernel": jnp.asarray(kernel)}}
    (layer,) = analysis.upper_bounds(model, variables, (9, 9, 2)).layers
    exact = exact_norm(lambda x: model.apply(variables, x), (9, 9, 2))
    assert exact * (1 - 1e-6) <= layer.bound <= 1.35 * exact


def test_the_torus_of_the_image_does_not_bound_zero_padding():
    """Why the padded grid: a kernel whose phases cancel on a torus of four only."""
    kernel = np.array([1.0, 0, 0, 0, -1.0]).reshape(5, 1, 1, 1)
    circular = analysis.conv_norm(kernel, grid=(4, 1))
    padded = analysis.conv_norm(kernel, grid=(8, 1))
    assert circular == pytest.approx(0, abs=1e-12)
    assert padded == pytest.approx(2, rel=1e-12)
    model = nn.Conv(1, (5, 1), use_bias=False)
    variables = {"params": {"kernel": jnp.asarray(kernel)}}
    bounds = analysis.upper_bounds(model, variables, (4, 1, 1))
    # Each pixel moves by two places, none meets another.
    assert exact_norm(lambda x: model.apply(variables, x), (4, 1, 1)) == 1
    assert bounds.network == bounds.layers[0].bound == padded
    assert bounds.layers[0].circular == circular


def test_grid_must_be_a_multiple_of_the_strides(kernel):
    with pytest.raises(ValueError, match=r"multiple of the strides \(2, 2\)"):
        analysis.conv_norm(kernel, strides=(2, 2), grid=(9, 8))


def test_dense_norm_is_the_largest_singular_value():
    weights = np.random.default_rng(0).standard_normal((7, 12))
    exact = np.linalg.svd(weights, compute_uv=False)[0]
    for side in (weights, weights.T):
        # Squared and rooted in double precision.
        assert analysis.dense_norm(side) == pytest.approx(exact, rel=1e-13)


class Pooled(nn.Module):
    """A pool after nothing, so that the model's bound is that of the pool."""

    window: int
    stride: int

    @nn.compact
    def __call__(self, x):
        size, strides = (self.window,) * 2, (self.stride,) * 2
        return nn.max_pool(x, size, strides).reshape(x.shape[0], -1)


@pytest.mark.parametrize(
    ("window", "stride", "factor"), [(2, 2, 1), (3, 2, 2), (3, 1, 3)]
)
def test_pools_stretch_by_how_often_they_cover_a_pixel(window, stride, factor):
    bounds = analysis.upper_bounds(Pooled(window, stride), {}, (8, 8, 1))
    assert bounds.network == pytest.approx(factor)
    peak = np.zeros((1, 8, 8, 1), np.float32)
    peak[0, 4, 4, 0] = 1
    reached = np.linalg.norm(Pooled(window, stride).apply({}, peak))
    assert reached <= factor + 1e-6
    if stride == 1:
        assert reached == pytest.approx(factor)


def test_own_pool_is_contractive():
    def pooled(x):
        return max_pool(x, 3).reshape(x.shape[0], -1)

    class Own(nn.Module):
        def __call__(self, x):
            return pooled(x)

    assert analysis.upper_bounds(Own(), {}, (10, 9, 2)).network == 1


class Branches(nn.Module):
    """Two branches of a residual block, scaled together, and a mean for all entries."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        mean = jnp.maximum(jnp.mean(x), 0.1 * jnp.mean(x)) * jnp.ones(16)
        return (3 * x + nn.relu(2 * x - 1)) / -0.5 + mean


def test_branches_add_up():
    # The mean over 16 pixels stretches by 1/4, and giving it to 16 entries by 4.
    bounds = analysis.upper_bounds(Branches(), {}, (4, 4, 1))
    assert bounds.network == pytest.approx((3 + 2) / 0.5 + np.hypot(1, 0.1))
    lit = jnp.ones((1, 4, 4, 1))
    moved = Branches().apply({}, lit + 1) - Branches().apply({}, lit)
    assert np.linalg.norm(moved) / 4 == pytest.approx(9)  # -10 and +1: opposed


class Brightest(nn.Module):
    """The brightest pixel sixteen times, as the lower end of a range."""

    def __call__(self, x):
        return jax.lax.clamp(jnp.max(x), jnp.zeros((1, 16)), 9.0)


def test_a_scalar_that_is_repeated_counts_for_each():
    assert analysis.upper_bounds(Brightest(), {}, (4, 4, 1)).network == 4
    dark = jnp.zeros((1, 4, 4, 1))
    lit = dark.at[0, 1, 2, 0].set(1)
    moved = Brightest().apply({}, lit) - Brightest().apply({}, dark)
    assert np.linalg.norm(moved) == 4


class Again(nn.Module):
    """Units, or layers too, that are computed again in the backward pass."""

    layer: type[nn.Module]

    @nn.compact
    def __call__(self, x):
        return self.layer(3)(jax.checkpoint(nn.relu)(x.reshape(x.shape[0], -1)))


def test_programs_within_the_program_are_followed():
    model = Again(nn.Dense)
    variables = drawn_variables(model, jnp.zeros((1, 4, 4, 1)))
    bounds = analysis.upper_bounds(model, variables, (4, 4, 1))
    assert bounds.network == bounds.layers[0].bound > 0


def test_layers_of_unknown_weights_are_refused():
    model = Again(nn.remat(nn.Dense))
    variables = drawn_variables(model, jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"traced ones; take .* without `nn.remat`"):
        analysis.upper_bounds(model, variables, (4, 4, 1))


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: x * x, "product of two values"),
        (lambda x: x / (1 + jnp.sum(x)), "no known Lipschitz bound"),
        (jnp.exp, "`exp` has no known Lipschitz bound"),
        (lambda x: jnp.where(x > 0, x, 0.1), "no known Lipschitz bound"),
        # Its body runs three times.
        (lambda x: jax.lax.fori_loop(0, 3, lambda _, c: 2 * c, x), "`scan` has no"),
        (lambda x: (255 * x).astype(int).astype(float), "Rounding what .* to int32"),
    ],
)
def test_what_is_not_bounded_is_refused(fn, message):
    class Odd(nn.Module):
        def __call__(self, x):
            return fn(x)

    with pytest.raises(ValueError, match=message):
        analysis.upper_bounds(Odd(), {}, (4, 4, 1))


def test_normalisation_over_the_image_is_refused():
    norm = nn.InstanceNorm()
    variables = drawn_variables(norm, jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="no known Lipschitz bound"):
        analysis.upper_bounds(norm, variables, (4, 4, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_group_count": 2}, "2 groups"),
        ({"padding": "CIRCULAR"}, "got padding 'CIRCULAR'"),
        ({"input_dilation": 2, "padding": ((1, 1), (1, 1))}, r"dilation \(2, 2\)"),
    ],
)
def test_other_convolutions_are_refused(changes, message):
    model = nn.Conv(4, (3, 3), **changes)
    variables = drawn_variables(model, jnp.zeros((1, 8, 8, 2)))
    with pytest.raises(ValueError, match=message):
        analysis.upper_bounds(model, variables, (8, 8, 2))


def ten_times(product):
    return lambda *args, **options: 10 * product(*args, **options)


class Tripled(nn.Dense):
    """Three times what it extends."""

    def __call__(self, inputs):
        return 3.0 * super().__call__(inputs)


class Squared(nn.Conv):
    """The square of what it extends."""

    def __call__(self, inputs):
        return super().__call__(inputs) ** 2


def swapped(inputs, kernel, bias, dtype):
    return inputs, 10 * kernel, bias


class Intercepted(nn.Module):
    """A layer whose output another interceptor changes."""

    @nn.compact
    def __call__(self, x):
        with nn.intercept_methods(lambda f, args, options, _: 10 * f(*args, **options)):
            return nn.Dense(3, name="Dense_0")(x)


class Flat(nn.Module):
    """One layer of the flattened image."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.layer(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Tripled(3), "exactly `nn.Dense` .*got its subclass `Tripled`"),
        (Squared(3, (3, 3)), "exactly `nn.Conv` .*got its subclass `Squared`"),
        (nn.Dense(3, dot_general=ten_times(jax.lax.dot_general)), "`dot_general`"),
        (
            nn.Dense(3, dot_general_cls=lambda: ten_times(jax.lax.dot_general)),
            "`dot_general_cls`",
        ),
        (
            nn.Conv(
                *(3, (3, 3)),
                conv_general_dilated=ten_times(jax.lax.conv_general_dilated),
            ),
            "`conv_general_dilated`",
        ),
        (nn.Conv(3, (3, 3), mask=2 * jnp.ones((3, 3, 1, 3))), "`mask`"),
        (nn.Dense(3, promote_dtype=swapped), "`promote_dtype` .*got swapped"),
        (nn.Dense(3, dtype=jnp.float8_e5m2), "16 bits or more .* got float8"),
        (nn.BatchNorm(True, dtype=jnp.float8_e4m3fn), "16 bits .* got float8"),
        (Intercepted(), "'Dense_0' must run as it is"),
        (Flat(nn.WeightNorm(nn.Dense(3))), "traced ones.*`nn.WeightNorm`"),
        (nn.DenseGeneral(3), "`dot_general` has no known Lipschitz bound"),
    ],
)
def test_layers_that_may_compute_anything_else_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        analysis.upper_bounds(model, model.init(KEY, IMAGE), IMAGE.shape[1:])


@pytest.mark.parametrize("value", [np.nan, 1j])
def test_weights_that_are_not_real_and_finite_are_refused(value):
    variables = {"params": {"kernel": jnp.full((1, 3), value)}}
    model = nn.Dense(3, use_bias=False)
    with pytest.raises(ValueError, match=r"kernel of layer .* real and finite"):
        analysis.upper_bounds(model, variables, IMAGE.shape[1:])


def test_a_division_by_zero_is_refused():
    class Divided(nn.Module):
        def __call__(self, x):
            return x / jnp.zeros(1)

    with pytest.raises(ValueError, match="division by zero"):
        analysis.upper_bounds(Divided(), {}, IMAGE.shape[1:])


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_a_kernel_is_rounded_as_in_its_layer(dtype):
    """257 becomes 256 or 258 in bfloat16, never a smaller bound."""
    variables = {"params": {"kernel": jnp.full((1, 1), 259.0)}}
    model = nn.Dense(1, use_bias=False, dtype=dtype)
    exact = float(model.apply(variables, jnp.ones((1, 1)))[0, 0])
    assert exact == (259 if dtype is None else 260)
    assert analysis.upper_bounds(model, variables, (1, 1, 1)).network == exact


class Extra(nn.Module):
    """A convolution of images with one more axis before rows and columns."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(1, 4, 4, 9, 1)
        return nn.Conv(1, (3, 3), use_bias=False)(inputs=x)


def test_arguments_by_name_and_more_batch_axes():
    kernel = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], np.float32)
    variables = {"params": {"Conv_0": {"kernel": kernel[..., None, None]}}}
    bounds = analysis.upper_bounds(Extra(), variables, (12, 12, 1))
    exact = exact_norm(lambda x: Extra().apply(variables, x), (12, 12, 1))
    assert exact * (1 - 1e-6) <= bounds.network <= 1.35 * exact
    # The norm on a torus of 4 by 4, which the axes before the last two would give.
    assert analysis.conv_norm(kernel[..., None, None], grid=(6, 11)) == bounds.network


def test_boxed_weights_are_unboxed():
    init = nn.with_partitioning(nn.initializers.ones, (None, None))
    model = nn.Dense(4, use_bias=False, kernel_init=init)
    variables = model.init(KEY, IMAGE)
    assert analysis.upper_bounds(model, variables, IMAGE.shape[1:]).network == 2


def test_a_layer_is_measured_once_even_if_it_extends_another():
    variables = Tripled(3).init(KEY, IMAGE)
    values = analysis.layer_values(Tripled(3), variables, IMAGE)
    assert list(values) == [""]
    np.testing.assert_array_equal(values[""][1], Tripled(3).apply(variables, IMAGE))


MODELS = {
    "A": (12, 1, models.ModelA()),
    "B": (28, 1, models.ModelB()),
    "C": (16, 1, models.ModelC()),
    "small": (8, 1, models.SmallNet()),
    "fc10": (8, 1, models.FullyConnected()),
    "fc100_100_10": (8, 1, models.FullyConnected(hidden=(100, 100))),
    "resnet": (8, 3, models.ResNet(blocks=1, widths=(4, 8, 8))),
    "wide resnet": (
        8,
        3,
        models.ResNet(blocks=1, widths=(4, 8, 8), preactivated=True),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_bounds_are_never_below_what_is_measured(name):
    size, channels, model = MODELS[name]
    rng = np.random.default_rng(0)
    images = rng.random((4, size, size, channels), np.float32)
    variables = drawn_variables(model, images)
    moved = images + rng.normal(0, 0.1, images.shape).astype(np.float32)
    bounds = analysis.upper_bounds(model, variables, images.shape[1:])
    expansions = analysis.measured_expansions(
        model, variables, images, moved, batch_size=2
    )
    network = expansions.pop("network")
    assert list(expansions) == [layer.name for layer in bounds.layers]
    for layer in bounds.layers:
        # 1e-5: the layers compute in float32.
        assert expansions[layer.name].max() <= layer.bound * (1 + 1e-5), layer
        assert expansions[layer.name].min() > 0
    assert 0 < network.max() <= bounds.network * (1 + 1e-5)
    apply = jax.jit(model.apply)
    logits = apply(variables, moved) - apply(variables, images)
    expected = np.linalg.norm(logits, axis=1) / np.linalg.norm(
        (moved - images).reshape(4, -1), axis=1
    )
    np.testing.assert_allclose(network, expected, rtol=1e-5)


def test_worst_perturbation_of_a_linear_model_reaches_its_bound():
    model = models.make_classifier("fc10", 10)
    images = np.full((1, 4, 4, 1), 0.5, np.float32)
    variables = drawn_variables(model, images)
    worst = np.linalg.svd(variables["params"]["Dense_0"]["kernel"])[0][:, 0]
    moved = images + 0.1 * worst.reshape(images.shape)
    bounds = analysis.upper_bounds(model, variables, (4, 4, 1))
    measured = analysis.measured_expansions(model, variables, images, moved)
    assert measured["network"][0] == pytest.approx(bounds.network, rel=1e-5)


def test_sigmoids_count_for_a_quarter():
    model = models.FullyConnected(hidden=(5, 6))
    variables = drawn_variables(model, jnp.zeros((1, 4, 4, 1)))
    bounds = analysis.upper_bounds(model, variables, (4, 4, 1))
    product = np.prod([layer.bound for layer in bounds.layers])
    assert bounds.network == pytest.approx(product / 16, rel=1e-6)


def test_unmoved_images_have_no_expansion():
    model = models.make_classifier("fc10", 10)
    images = np.zeros((2, 4, 4, 1), np.float32)
    variables = drawn_variables(model, images)
    moved = images.copy()
    moved[1] += 0.1
    measured = analysis.measured_expansions(model, variables, images, moved)
    np.testing.assert_array_equal(np.isnan(measured["network"]), [True, False])
    with pytest.raises(ValueError, match=r"must have the shape \[2, 4, 4, 1\]"):
        analysis.measured_expansions(model, variables, images, moved[:1])


class Scaled(nn.Module):
    """More than linear layers: something follows the last one."""

    @nn.compact
    def __call__(self, x):
        return 3 * nn.Dense(16)(x.reshape(x.shape[0], -1))


def test_expansion_of_the_network_is_that_of_its_output():
    images = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
    variables = drawn_variables(Scaled(), images)
    measured = analysis.measured_expansions(Scaled(), variables, images, 0.9 * images)
    # The same float32 products, times 3.
    np.testing.assert_allclose(measured["network"], 3 * measured["Dense_0"], rtol=1e-5)


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(16)
        return layer(layer(x.reshape(x.shape[0], -1)))


def test_a_layer_called_twice_has_two_names():
    variables = drawn_variables(Twice(), jnp.zeros((1, 4, 4, 1)))
    bounds = analysis.upper_bounds(Twice(), variables, (4, 4, 1))
    assert [layer.name for layer in bounds.layers] == ["Dense_0", "Dense_0#2"]
    values = analysis.layer_values(Twice(), variables, jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(values["Dense_0"][1], values["Dense_0#2"][0])


def test_dilated_kernel_has_zeros_between_its_taps():
    kernel = np.arange(1.0, 5).reshape(2, 2, 1, 1)
    spread = norms.dilate(kernel, (2, 1))[..., 0, 0]
    np.testing.assert_array_equal(spread, [[1, 2], [0, 0], [3, 4]])
