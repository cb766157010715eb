"""C&W's attacks in lanes: each image ends by itself, and notices no other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks
from advgan_jax.cpu import loops

NUM_IMAGES = 7
ATTACKS = {
    "l2": (
        attacks.carlini_wagner_l2_search,
        {"num_search_steps": 4, "num_steps": 60, "initial_loss_weight": 0.1},
    ),
    "linf": (
        attacks.carlini_wagner_linf,
        {"num_steps": 20, "learning_rate": 0.02, "initial_loss_weight": 0.1},
    ),
}


@pytest.fixture(params=ATTACKS)
def attack(request, net):
    """A pure function of images and labels that is compiled anew in each test."""
    search, hyper = ATTACKS[request.param]

    def attack(images, labels):
        found = search.__wrapped__(net, images, labels, targeted=True, **hyper)
        return getattr(found, "images", found)

    return attack


@pytest.fixture(scope="module")
def problems(net):
    """Images, one of them adversarial already, one that cannot be, and others."""
    images = jax.random.uniform(jax.random.key(8), (NUM_IMAGES, 5, 7, 2))
    wanted = jnp.argsort(net(images), axis=-1)[:, -2]
    wanted = wanted.at[4].set(jnp.argmax(net(images[4:5])))
    return images, wanted.at[2].set(5)  # no such class


@pytest.mark.parametrize("num_lanes", [2, 3])
def test_each_image_as_if_side_by_side(num_lanes, attack, problems, monkeypatch):
    images, wanted = problems
    expected = jax.jit(attack)(images, wanted)
    monkeypatch.setattr(loops, "_NUM_LANES_CPU", num_lanes)
    found = jax.jit(partial(attack))(images, wanted)
    moved = np.abs(found - images).max(axis=(1, 2, 3))
    assert list(moved > 0) == [True, True, False, True, False, True, True]
    # Another batch size rounds otherwise, which Adam's first steps amplify.
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.slow
def test_vmap_and_shard_map_agree_with_jit(attack, problems, monkeypatch):
    monkeypatch.setattr(loops, "_NUM_LANES_CPU", 2)
    images, wanted = (array[:6] for array in problems)
    expected = jax.jit(attack)(images, wanted)
    mesh = jax.make_mesh((1,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("b")
    sharded = jax.shard_map(attack, mesh=mesh, in_specs=spec, out_specs=spec)
    pairs = images.reshape(2, 3, 5, 7, 2), wanted.reshape(2, 3)
    for found in (jax.jit(sharded)(images, wanted), jax.jit(jax.vmap(attack))(*pairs)):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-3)
