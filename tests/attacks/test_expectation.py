"""A model that draws random numbers, as one that attacks can follow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(4)


def noisy(net, images, key):
    return net(images + jax.random.normal(key, images.shape) / 10)


@pytest.fixture(scope="module")
def model(net):
    return attacks.expectation(Partial(noisy, net), 8, key=KEY)


def test_the_same_images_have_the_same_logits(model, images):
    np.testing.assert_array_equal(model(images), model(images))
    other = attacks.expectation(model.args[0], 8, key=jax.random.key(5))
    assert (model(images) != other(images)).any()


def test_each_iterate_has_its_own_draws(images):
    """The mean of the noise alone: any other pixel changes it."""
    drawn = attacks.expectation(
        lambda x, key: jax.random.normal(key, (len(x), 3)), 4, key=KEY
    )
    first = drawn(images)
    assert (drawn(images.at[0, 0, 0, 0].add(1e-6)) != first).all()
    assert (drawn(images[::-1]) != first).all()
    assert jnp.std(drawn(images) - first) == 0


def test_a_decorator_may_add_the_key(net, images):
    def plain(x):
        return net(x)

    @functools.wraps(plain)
    def decorated(x, key):
        return plain(x) + jax.random.normal(key, (len(x), 5))

    found = attacks.expectation(decorated, 4, key=KEY)(images)
    assert found.shape == net(images).shape


def test_it_averages(net, images):
    """The mean of many draws of unit variance is within six deviations of the model."""
    noise = Partial(lambda net, x, key: net(x) + jax.random.normal(key, (len(x), 5)))
    model = attacks.expectation(Partial(noise.func, net), 400, key=KEY)
    error = model(images) - net(images)
    assert 0 < float(jnp.abs(error).max()) < 6 / 20


def test_attacks_follow_it(net, model, images, labels):
    found = attacks.bim(model, images, labels, epsilon=0.3, num_steps=10)
    assert attacks.succeeded(net(found), labels).all()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((3, 2), TypeError, r"function \(images, key\)"),
        ((noisy, 0), ValueError, "`num_samples` must be an integer >= 1, got 0"),
        ((noisy, 2.0), ValueError, "`num_samples` must be an integer >= 1, got 2.0"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        attacks.expectation(*arguments, key=KEY)
    with pytest.raises(TypeError, match="typed key"):
        attacks.expectation(noisy, 2, key=jax.random.PRNGKey(0))
