"""Test mixed precision: products in bfloat16, everything else in float32."""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import models
from advgan_jax.attacks.transfer import average_models
from advgan_jax.cpu import layers

# An operand keeps eight bits. Rounding in each layer costs three more.
TOLERANCE = 8 * 2.0**-8
NETS = {
    "C": (models.ModelC(widths=(4, 8), hidden=16), 16),
    "resnet": (models.ResNet(blocks=1, widths=(4, 8, 8)), 8),
    "generator": (models.Generator(0.3, widths=(4, 8, 8), num_residual=1), 12),
    "conditional": (models.ConditionalGenerator(0.3, 10, (4, 8, 8), 1), 12),
    "discriminator": (models.TwoHeadDiscriminator(10, widths=(4, 8)), 12),
}


class TwoConvolutions(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(layers.Conv(8, (3, 3))(images))
        x = layers.max_pool(nn.relu(layers.Conv(16, (3, 3))(x)), 2)
        return layers.Dense(10)(x.reshape(x.shape[0], -1))


def inputs_of(name, size, batch=4):
    images = jax.random.uniform(jax.random.key(1), (batch, size, size, 1))
    return (images, jnp.arange(batch) % 10) if name == "conditional" else (images,)


@pytest.fixture(scope="module", params=NETS)
def case(request):
    """Return a network, its mixed-precision version, weights and inputs."""
    net, size = NETS[request.param]
    inputs = inputs_of(request.param, size)
    variables = jax.jit(net.init)(jax.random.key(0), *inputs)
    return net, models.MixedPrecision(net), variables, inputs


def total(net, inputs):
    def loss(variables):
        return sum(jnp.sum(x) for x in jax.tree.leaves(net.apply(variables, *inputs)))

    return loss


def test_weights_are_the_networks_own(case):
    _, mixed, variables, inputs = case
    found = jax.jit(mixed.init)(jax.random.key(0), *inputs)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    for ours, theirs in zip(*map(jax.tree.leaves, (found, variables)), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, theirs)


def test_all_products_are_of_bfloat16_forwards_and_backwards(case, products):
    net, mixed, variables, inputs = case
    assert products(jax.grad(total(net, inputs)), variables) == {"f32"}
    assert products(jax.grad(total(mixed, inputs)), variables) == {"bf16"}


def test_results_are_near_and_float32(case):
    net, mixed, variables, inputs = case
    ours, theirs = (jax.jit(x.apply)(variables, *inputs) for x in (mixed, net))
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        assert a.dtype == jnp.float32
        assert 0 < np.abs(a - b).max() < TOLERANCE * np.abs(b).max()


def test_gradients_of_large_sums_are_near_and_float32():
    """A bias' gradient is a sum over all pixels of a batch, here of 10^5 terms.

    Of two convolutions: normalised layers magnify what one after another is rounded.
    """
    net, inputs = TwoConvolutions(), inputs_of("small", 28, batch=128)
    variables = jax.jit(net.init)(jax.random.key(0), *inputs)
    ours, theirs = (
        jax.jit(jax.grad(total(x, inputs)))(variables)
        for x in (models.MixedPrecision(net), net)
    )
    for (path, a), b in zip(
        jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        assert a.dtype == jnp.float32
        error = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert error < TOLERANCE, jax.tree_util.keystr(path)


def test_running_statistics_are_float32():
    """Otherwise rounding would remove a step of one per cent of a mean."""
    net, size = NETS["resnet"]
    mixed = models.MixedPrecision(net)
    images = jax.random.uniform(jax.random.key(1), (4, size, size, 1))
    variables = jax.jit(net.init)(jax.random.key(0), images)

    def updated(net):
        apply = partial(net.apply, train=True, mutable=["batch_stats"])
        return jax.tree.leaves(jax.jit(apply)(variables, images)[1])

    for ours, theirs in zip(updated(mixed), updated(net), strict=True):
        assert ours.dtype == jnp.float32
        # A rounded value has no bits after the eighth.
        assert np.any(ours != ours.astype(jnp.bfloat16))
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * np.abs(theirs).max())


def test_frozen_model_computes_in_bfloat16_and_traces_once(products, counted_logits):
    model, size = NETS["C"]
    images = jax.random.uniform(jax.random.key(1), (2, size, size, 1))
    logits, traces = counted_logits
    for seed in (0, 1):
        variables = jax.jit(model.init)(jax.random.key(seed), images)
        exact = models.make_logits_fn(model, variables)
        rounded = models.lower_precision(exact)
        assert products(logits, rounded, images) == {"bf16"}
        found, wanted = logits(rounded, images), jax.jit(exact)(images)
        assert found.dtype == jnp.float32
        assert 0 < np.abs(found - wanted).max() < TOLERANCE * np.abs(wanted).max()
        # As an argument of a step.
        kept = {leaf.dtype for leaf in jax.tree.leaves(rounded)}
        assert kept == {np.dtype("float32")}
    assert len(traces) == 1


def test_frozen_models_are_averaged_in_float32(products):
    model, size = NETS["C"]
    images = jax.random.uniform(jax.random.key(1), (2, size, size, 1))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    member = models.make_logits_fn(model, variables)
    both = average_models([member, member], "log_probabilities")
    lowered = models.lower_precision(both)
    assert products(lowered, images) == {"bf16"}
    text = jax.jit(lowered).lower(images).as_text()
    assert "exponential" in text
    assert not re.search(r"stablehlo\.(exponential|log)\b.*bf16", text)


def test_running_statistics_of_a_frozen_model_are_not_rounded():
    net, size = NETS["resnet"]
    images = jax.random.uniform(jax.random.key(1), (4, size, size, 1))
    variables = jax.jit(net.init)(jax.random.key(0), images)
    frozen = models.lower_precision(models.make_logits_fn(net, variables))
    text = jax.jit(frozen).lower(images).as_text()
    assert "rsqrt" in text
    assert not re.search(r"stablehlo\.rsqrt\b.*bf16", text)


def test_what_would_stay_float32_is_refused():
    images = jnp.zeros((1, 4))
    stock = nn.Dense(2)
    variables = stock.init(jax.random.key(0), images)
    with pytest.raises(ValueError, match=r"got `Dense` of Flax.*`layers\.Dense`"):
        models.MixedPrecision(stock).apply(variables, images)
    frozen = models.lower_precision(models.make_logits_fn(stock, variables))
    with pytest.raises(ValueError, match="got `Dense` of Flax"):
        frozen(images)
    with pytest.raises(ValueError, match="with kernels among its weights, got none"):
        models.lower_precision(lambda images: images)
