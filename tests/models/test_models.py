"""Test networks: the papers' sizes, any image size, and rejected arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import models

# Weights and biases, counted by hand from the papers' tables of layers.
PARAMETERS = {
    # 5*5*1*64+64, 5*5*64*64+64, 20*20*64*128+128, 128*10+10
    "A": (28, 1, 1_664 + 102_464 + 3_276_928 + 1_290),
    # 8*8*1*64+64, 6*6*64*128+128, 5*5*128*128+128, 128*10+10
    "B": (28, 1, 4_160 + 295_040 + 409_728 + 1_290),
    # two of 32, two of 64, 1024*200+200, 200*200+200, 200*10+10
    "C": (28, 1, 320 + 9_248 + 18_496 + 36_928 + 205_000 + 40_200 + 2_010),
    "fc10": (28, 1, 7_850),
    "fc100_100_10": (28, 1, 78_500 + 10_100 + 1_010),
    "fc200_200_10": (28, 1, 157_000 + 40_200 + 2_010),
    "fc123_456_10": (28, 1, 96_555 + 56_544 + 4_570),
}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(model, size, channels):
    images = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables, jax.eval_shape(model.apply, variables, images)


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_of_the_papers(name):
    size, channels, parameters = PARAMETERS[name]
    variables, logits = shapes(models.make_classifier(name, 10), size, channels)
    assert count(variables["params"]) == parameters
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "convolutions", "millions"), [("resnet32", 31, 0.47), ("wrn34_10", 31, 46)]
)
def test_depth_and_size_of_residual_nets(name, convolutions, millions):
    """The depth counts 3x3 convolutions and the last layer, not the shortcuts."""
    variables, logits = shapes(models.make_classifier(name, 10), 32, 3)
    kernels = [x for x in jax.tree.leaves(variables["params"]) if x.ndim == 4]
    assert sum(kernel.shape[0] == 3 for kernel in kernels) == convolutions
    assert count(variables["params"]) / 1e6 == pytest.approx(millions, rel=0.02)
    assert logits.shape == (2, 10)


def test_unknown_model_lists_the_known():
    with pytest.raises(ValueError, match=r"Unknown target model 'D'.*A, B, C"):
        models.make_classifier("D", 10)


def test_images_too_small_for_a_model():
    with pytest.raises(ValueError, match="at least 27 by 27 pixels, got 8 by 8"):
        shapes(models.make_classifier("B", 10), 8, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (13, 10, 2), (3, 4, 5), (1, 2, 1)]
)
def test_generator_stays_within_epsilon(shape):
    net = models.Generator(epsilon=0.25, num_residual=1)
    images = jax.random.uniform(jax.random.key(0), (2, *shape))

    @jax.jit
    def perturbations(key):
        variables = jax.tree.map(lambda w: 30 * w, net.init(key, images))
        return net.apply(variables, images)

    r = perturbations(jax.random.key(1))
    assert r.shape == images.shape
    assert float(jnp.abs(r).max()) == pytest.approx(0.25, rel=1e-3)
    assert float(r.min()) < 0 < float(r.max())
    assert float(jnp.abs(r[0] - r[1]).max()) > 1e-3  # each image has its own


def test_generator_starts_near_the_clean_image():
    net = models.Generator(epsilon=0.3)
    images = jax.random.uniform(jax.random.key(0), (2, 28, 28, 1))
    r, _ = jax.jit(net.init_with_output)(jax.random.key(1), images)
    assert 0 < float(jnp.abs(r).mean()) < 0.1


@pytest.mark.slow
def test_images_do_not_see_their_batch():
    """Without batch normalisation, a perturbation depends on its own image only."""
    for net in (models.Generator(0.3, num_residual=1), models.Discriminator()):
        images = jax.random.uniform(jax.random.key(0), (3, 12, 12, 1))
        variables = jax.jit(net.init)(jax.random.key(1), images)
        apply = jax.jit(net.apply)
        np.testing.assert_allclose(
            apply(variables, images)[:1], apply(variables, images[:1]), atol=1e-5
        )


def test_new_weights_do_not_trace_again(counted_logits):
    model = models.make_classifier("fc10", 10)
    images = jnp.zeros((1, 4, 4, 1))
    logits, traces = counted_logits
    for seed in (0, 1):
        variables = model.init(jax.random.key(seed), images)
        logits(models.make_logits_fn(model, variables), images)
    assert len(traces) == 1
