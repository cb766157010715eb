"""Mixed precision: what computes in bfloat16, and what stays float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import models

# A result keeps eight bits, and a dozen layers of rounded results lose about three.
TOLERANCE = 8 * 2.0**-8
NETS = {
    "A": (models.make_classifier("A", 10), 28),
    "C": (models.make_classifier("C", 10), 28),
    "resnet32": (models.make_classifier("resnet32", 10), 8),
    "generator": (models.Generator(epsilon=0.3, widths=(4, 8, 8)), 12),
    "conditional": (models.ConditionalGenerator(0.3, 10, widths=(4, 8, 8)), 12),
    "discriminator": (models.TwoHeadDiscriminator(10, widths=(4, 8)), 12),
}


@pytest.fixture(scope="module", params=NETS)
def case(request):
    """A network, in mixed precision too, with weights and inputs."""
    net, size = NETS[request.param]
    inputs = (jax.random.uniform(jax.random.key(1), (4, size, size, 1)),)
    if request.param == "conditional":
        inputs += (jnp.arange(4),)
    variables = jax.jit(net.init)(jax.random.key(0), *inputs)
    return net, models.MixedPrecision(net, jnp.bfloat16), variables, inputs


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


def test_results_are_near_and_they_and_the_gradients_float32(case):
    net, mixed, variables, inputs = case

    ours, theirs = (jax.jit(x.apply)(variables, *inputs) for x in (mixed, net))
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        assert a.dtype == jnp.float32
        assert 0 < np.abs(a - b).max() < TOLERANCE * np.abs(b).max()
    gradients = jax.eval_shape(jax.grad(total(mixed, inputs)), variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {np.dtype("float32")}


def test_running_statistics_are_float32():
    """Else a step of one per cent of a mean would be lost to rounding."""
    net, size = NETS["resnet32"]
    mixed = models.MixedPrecision(net, jnp.bfloat16)
    images = jax.random.uniform(jax.random.key(1), (4, size, size, 1))
    variables = jax.jit(net.init)(jax.random.key(0), images)

    def updated(net):
        apply = partial(net.apply, train=True, mutable=["batch_stats"])
        return jax.tree.leaves(jax.jit(apply)(variables, images)[1])

    for ours, theirs in zip(updated(mixed), updated(net), strict=True):
        assert ours.dtype == jnp.float32
        # A value that was rounded has no bits behind the eighth.
        assert np.any(ours != ours.astype(jnp.bfloat16))
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * np.abs(theirs).max())


def test_frozen_model_computes_in_bfloat16_and_traces_once(products):
    model, size = NETS["C"]
    images = jax.random.uniform(jax.random.key(1), (2, size, size, 1))
    traces = []

    @jax.jit
    def logits(fn, x):
        traces.append(1)
        return fn(x)

    for seed in (0, 1):
        variables = jax.jit(model.init)(jax.random.key(seed), images)
        exact = models.make_logits_fn(model, variables)
        rounded = models.compute_in(exact, jnp.bfloat16)
        assert products(logits, rounded, images) == {"bf16"}
        found, wanted = logits(rounded, images), exact(images)
        assert found.dtype == jnp.float32
        assert 0 < np.abs(found - wanted).max() < TOLERANCE * np.abs(wanted).max()
        # As it stands among a step's arguments.
        kept = {leaf.dtype for leaf in jax.tree.leaves(rounded)}
        assert kept == {np.dtype("float32")}
    assert len(traces) == 1


def test_frozen_function_that_is_no_pytree_gets_rounded_images():
    found = models.compute_in(lambda images: 3 * images, jnp.bfloat16)
    third = jnp.full((1, 2), 1 / 3)
    np.testing.assert_array_equal(
        jax.jit(found)(third), 3 * third.astype(jnp.bfloat16).astype(jnp.float32)
    )
