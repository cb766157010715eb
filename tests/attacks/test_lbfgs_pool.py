"""The pool of lanes: no image notices the others, and no lane waits for another."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax.attacks._lbfgs import Settings, search_by_lanes
from advgan_jax.attacks.lbfgs import begin, end
from advgan_jax.cpu import loops

NUM_IMAGES = 9
STEPS = 8
SETTINGS = Settings(STEPS, 60, 10, targeted=True, bounds=(0.0, 1.0))


def _search(model, images, wanted):
    problem, search = begin(
        model, images, wanted, jnp.ones((), images.dtype), settings=SETTINGS
    )
    search = search_by_lanes(model, problem, search, SETTINGS)
    return end(model, problem, search, settings=SETTINGS)


@pytest.fixture(scope="module")
def problems(net):
    """Images, one of them adversarial already, one that cannot be, and others."""
    images = jax.random.uniform(jax.random.key(8), (NUM_IMAGES, 5, 7, 2))
    wanted = jnp.argsort(net(images), axis=-1)[:, -2]
    wanted = wanted.at[4].set(jnp.argmax(net(images[4:5])))
    # No such class: its cross-entropy is NaN.
    return images, wanted.at[6].set(5)


@pytest.fixture
def run(monkeypatch):
    def with_lanes(num_lanes, model, images, wanted):
        monkeypatch.setattr(loops, "_NUM_LANES_CPU", num_lanes)
        return jax.jit(partial(_search, model))(images, wanted)

    return with_lanes


@pytest.mark.slow
@pytest.mark.parametrize("num_lanes", [2, 5, 64])
def test_each_image_as_if_attacked_alone(num_lanes, run, net, problems):
    found = run(num_lanes, net, *problems)
    alone = jax.jit(partial(_search, net))
    np.testing.assert_array_equal(found.success, [True] * 6 + [False] + [True] * 2)
    np.testing.assert_array_equal(found.l2[4], 0)
    np.testing.assert_array_equal(found.num_evaluations[4], 0)
    np.testing.assert_array_equal(found.images[4], problems[0][4])
    np.testing.assert_array_equal(found.images[6], problems[0][6])
    for i in range(NUM_IMAGES):
        single = alone(*(array[i : i + 1] for array in problems))
        # Another batch size rounds otherwise: within the tolerance of a minimisation.
        np.testing.assert_allclose(single.l2[0], found.l2[i], rtol=1e-3)


def test_a_lane_is_never_idle_while_an_image_waits(run, net, problems):
    rounds = []

    def counting(x):
        jax.debug.callback(lambda: rounds.append(len(x)))
        return net(x)

    # One in two cannot be attacked, and ends after a round for each c.
    images, wanted = (array[:4].repeat(2, axis=0) for array in problems)
    found = run(2, Partial(counting), images, wanted.at[1::2].set(5))
    jax.effects_barrier()
    needed = np.where(found.success, found.num_evaluations, STEPS)
    assert needed[::2].min() > 3 * STEPS
    # Whoever takes the next image whenever a lane is free ends in this time (Graham).
    assert rounds.count(2) * 2 <= needed.sum() + needed.max()


@pytest.mark.slow
def test_vmap_and_shard_map_agree_with_jit(run, net, problems):
    images, wanted = (array[:4] for array in problems)
    expected = run(3, net, images, wanted)
    model = partial(_search, net)
    mesh = jax.make_mesh((1,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("b")
    sharded = jax.shard_map(model, mesh=mesh, in_specs=spec, out_specs=spec)
    pairs = images.reshape(2, 2, 5, 7, 2), wanted.reshape(2, 2)
    for found in (jax.jit(sharded)(images, wanted), jax.jit(jax.vmap(model))(*pairs)):
        # Other fusions round otherwise: within the tolerance of a minimisation.
        np.testing.assert_allclose(found.l2.ravel(), expected.l2, rtol=1e-3)
