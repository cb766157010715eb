"""Test layer-wise training: updated layers, pools, and agreement of devices."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import attacks, models
from advgan_jax.attacks import make_attack
from advgan_jax.training import layerwise
from advgan_jax.training.layerwise import Mixture
from advgan_jax.types import Batch

SHAPE = (4, 4, 1)
DECAYS = (0.0, 0.0, 0.0)


@pytest.fixture
def model():
    return models.FullyConnected(num_classes=3, hidden=(6, 5))


@pytest.fixture
def batch():
    images = jax.random.uniform(jax.random.key(5), (12, *SHAPE))
    return Batch(images, jnp.arange(12) % 3)


def mixture(*chosen, **changes):
    sizes = {
        "pool_size": 20,
        "num_replaced": 8,
        "steps_per_replacement": 2,
        "num_mixed": 16,
    }
    return Mixture(layers=chosen, **(sizes | changes))


def flipped(logits_fn, images, labels, *, key=None, targeted=False, bounds=(0.0, 1.0)):
    """Replace an attack by cheap inputs that differ clearly from clean ones."""
    del logits_fn, labels, key, targeted
    return bounds[1] - images


def start(model, chosen, optimizer=None):
    optimizer = optimizer or optax.sgd(0.1)
    return layerwise.init_state(model, optimizer, jax.random.key(0), SHAPE, chosen)


def make_step(model, chosen, attack=flipped, optimizer=None, decays=DECAYS):
    return layerwise.make_train_step(
        model, optimizer or optax.sgd(0.1), attack, chosen, strengths=decays
    )


@cache
def compiled(model, chosen, rate=0.1, decays=DECAYS):
    """Compile one step for all tests of the same mixture."""
    return jax.jit(make_step(model, chosen, optimizer=optax.sgd(rate), decays=decays))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_layers_below_are_untouched_by_the_adversarial_part(model, batch, layer):
    """Return the pool's share of a step: its difference from one without a pool."""
    chosen, none = mixture(layer), mixture()
    state = start(model, chosen)
    mixed, metrics = compiled(model, chosen)(state, batch)
    plain, _ = compiled(model, none)(state.replace(pools=()), batch)
    assert metrics["adversarial_loss"] > 0
    for number in range(3):
        ours, theirs = (
            s.model.params[f"Dense_{number}"]["kernel"] for s in (mixed, plain)
        )
        same = np.array_equal(ours, theirs)
        assert same == (number < layer), number


def test_pool_holds_what_the_attack_made_of_a_layers_output(model, batch):
    chosen = mixture(2)
    state = start(model, chosen)
    after, _ = compiled(model, chosen)(state, batch)
    (pool,) = after.pools
    filled = np.flatnonzero(pool.labels >= 0)
    assert len(filled) == 8
    units = layerwise.layer_outputs(model, state.model.params, batch.images[:8], 2)
    assert units.shape == (8, 1, 1, 5)
    expected = {tuple(np.round(row, 5)) for row in np.asarray(1 - units[:, 0, 0])}
    found = {tuple(np.round(row, 5)) for row in np.asarray(pool.inputs[filled, 0, 0])}
    assert found == expected
    assert sorted(np.asarray(pool.labels[filled])) == sorted(batch.labels[:8].tolist())


@pytest.mark.parametrize("layers", [(0, 2), (2, 0)])
def test_step_follows_the_gradient_of_the_mixture(layers, model, batch):
    """With SGD of rate 1, old minus new weights are the gradient."""
    chosen, decays = mixture(*layers, weight=3.0), (0.1, 0.2, 0.3)
    state = start(model, chosen, optax.sgd(1.0))
    # Only the first pool is filled, and only in part.
    after, metrics = compiled(model, chosen, 1.0, decays)(state, batch)
    _, own = jax.random.split(jax.random.fold_in(state.key, state.step))
    rows = jax.random.randint(jax.random.split(own, 3)[2], (16,), 0, 20)
    pool = after.pools[0]
    rows = rows[pool.labels[rows] >= 0]
    assert 0 < len(rows) < 16

    def cross_entropy(params, x, labels, layer=0):
        logits = model.apply({"params": params}, x, first=layer)
        log_p = jax.nn.log_softmax(logits)
        return -jnp.mean(log_p[jnp.arange(len(labels)), labels])

    def parts(params):
        clean = cross_entropy(params, *batch)
        inputs, labels = pool.inputs[rows], pool.labels[rows]
        adversarial = cross_entropy(params, inputs, labels, layers[0]) / 2
        decay = sum(
            3 * strength * jnp.sum(params[f"Dense_{n}"]["kernel"] ** 2) / units
            for n, (strength, units) in enumerate(zip(decays, (6, 5, 3), strict=True))
        )
        return clean + decay + 3 * adversarial, (clean, adversarial)

    params = state.model.params
    gradient, (clean, adversarial) = jax.jit(jax.grad(parts, has_aux=True))(params)
    assert metrics["loss"] == pytest.approx(float(clean), rel=1e-5)
    assert metrics["adversarial_loss"] == pytest.approx(float(adversarial), rel=1e-5)
    moved = jax.tree.map(jnp.subtract, params, after.model.params)
    for got, wanted in zip(
        jax.tree.leaves(moved), jax.tree.leaves(gradient), strict=True
    ):
        # Float32: the difference of weights of size 1 loses up to 1e-7.
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_layers_take_turns(model, batch):
    chosen = mixture(0, 1, 2)
    step, state = compiled(model, chosen), start(model, chosen)
    counts = []
    for _ in range(8):
        state, _ = step(state, batch)
        counts.append([int((pool.labels >= 0).sum()) for pool in state.pools])
    assert counts[:6] == [[8, 0, 0]] * 2 + [[8, 8, 0]] * 2 + [[8, 8, 8]] * 2
    assert counts[6][0] > 8  # the first again, at other places of its pool
    assert counts[6][1:] == [8, 8]


def test_state_may_be_donated(model):
    """No two of its arrays share a buffer."""
    state = start(model, mixture(0, 1, 2))
    leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_empty_pools_weigh_nothing(model, batch):
    """Before its first turn, the pool of a layer has no effect."""
    heavy = mixture(0, 1, weight=100.0)
    light = mixture(0, 1, weight=0.0)
    late = {"step": jnp.asarray(1, jnp.int32)}  # not a step of replacement
    a, b = (
        compiled(model, chosen)(start(model, chosen).replace(**late), batch)
        for chosen in (heavy, light)
    )
    assert a[1]["adversarial_loss"] == 0
    for x, y in zip(
        jax.tree.leaves(a[0].model.params),
        jax.tree.leaves(b[0].model.params),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


def test_parts_of_the_net_make_the_whole(model, batch):
    params = start(model, mixture()).model.params
    logits = model.apply({"params": params}, batch.images)
    for layer in range(3):
        units = layerwise.layer_outputs(model, params, batch.images, layer)
        above = layerwise.layers_above(model, params, layer)
        np.testing.assert_array_equal(above(units), logits)


def test_real_attack_on_a_hidden_layer(model, batch):
    """L-BFGS in the box of the sigmoids crosses the boundary of the layers above."""
    params = start(model, mixture()).model.params
    units = layerwise.layer_outputs(model, params, batch.images, 2)
    above = layerwise.layers_above(model, params, 2)
    labels = jnp.argmax(above(units), axis=1)
    attack = jax.jit(partial(attacks.lbfgs, num_search_steps=8, num_steps=20))
    moved = attack(above, units, labels)
    assert moved.shape == units.shape
    assert 0 <= moved.min() <= moved.max() <= 1
    assert np.mean(jnp.argmax(above(moved), axis=1) != labels) > 0.5


@pytest.mark.slow
def test_trains_with_the_attack_inside_the_step(digits):
    """The model learns the pool's adversarial images: their loss falls."""
    model = models.FullyConnected(hidden=(20,))
    optimizer = optax.adam(1e-2)
    chosen = mixture(0, 1, pool_size=40, num_replaced=10, weight=1.0)
    attack = make_attack("lbfgs", num_search_steps=4, num_steps=10)
    state = layerwise.init_state(model, optimizer, jax.random.key(0), (8, 8, 1), chosen)
    step = jax.jit(make_step(model, chosen, attack, optimizer, (1e-5, 1e-6)))
    losses = []
    for i in range(60):
        rows = slice(64 * (i % 20), 64 * (i % 20) + 64)
        part = Batch(
            jnp.asarray(digits.train.images[rows]),
            jnp.asarray(digits.train.labels[rows]),
        )
        state, metrics = step(state, part)
        losses.append(float(metrics["adversarial_loss"]))
    # After fifteen random quarters, 0.75^15 or one percent was never chosen.
    assert all(np.mean(pool.labels >= 0) > 0.9 for pool in state.pools)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert metrics["accuracy"] > 0.5


def test_dropout_is_drawn_in_training_only(batch):
    model = models.FullyConnected(num_classes=3, hidden=(6, 5), dropout=0.5)
    state = start(model, mixture())
    step = compiled(model, mixture())
    other = state.replace(key=jax.random.key(9))
    a, b = step(state, batch)[1]["loss"], step(other, batch)[1]["loss"]
    assert a != b
    variables = {"params": state.model.params}
    np.testing.assert_array_equal(
        model.apply(variables, batch.images),
        model.clone(dropout=0.0).apply(variables, batch.images),
    )


def test_devices_share_their_pools(model, batch):
    """Two shards, each with half of the batch, give one state."""
    chosen = mixture(0, 1)
    step = partial(make_step(model, chosen), axis_name="devices")
    halves = jax.tree.map(lambda x: x.reshape(2, 6, *x.shape[1:]), batch)
    state = start(model, chosen)
    sharded = jax.vmap(step, in_axes=(None, 0), axis_name="devices")
    states, metrics = jax.jit(sharded)(state, halves)
    for leaf in jax.tree.leaves((states.model.params, states.pools, metrics)):
        np.testing.assert_array_equal(leaf[0], leaf[1])
    assert int((states.pools[0].labels[0] >= 0).sum()) == 12
    assert int((states.pools[1].labels[0] >= 0).sum()) == 0


def test_same_key_same_bits(model, batch):
    chosen = mixture(0, 2)
    step = compiled(model, chosen)
    twice = [step(start(model, chosen), batch)[0] for _ in range(2)]
    leaves = (jax.tree.leaves((s.model, s.pools)) for s in twice)
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (mixture(3), "from 0, the image, to 2, the last hidden layer, got 3"),
        (mixture(0, num_replaced=21), "at most `pool_size`, 20, got 21"),
        (mixture(0, num_mixed=0), "`num_mixed` must be a finite number >= 1"),
        (mixture(0, weight=-1.0), "`weight` must be a finite number >= 0"),
        (mixture(0, rms=-1.0), "`rms` must be a finite number >= 0"),
    ],
)
def test_refused(model, chosen, message):
    with pytest.raises(ValueError, match=message):
        start(model, chosen)


def test_hidden_units_must_have_known_bounds():
    model = models.FullyConnected(num_classes=3, hidden=(6,), activation=nn.tanh)
    with pytest.raises(ValueError, match="must be sigmoids or rectified"):
        start(model, mixture(1))
    start(model, mixture())  # without pools, every activation is valid


@pytest.mark.parametrize("rms", [0.05, 0.4])
def test_perturbations_have_the_chosen_size_within_the_box(rms, model, batch):
    chosen = mixture(2, rms=rms)
    state = start(model, chosen)
    after, _ = compiled(model, chosen)(state, batch)
    (pool,) = after.pools
    units = layerwise.layer_outputs(model, state.model.params, batch.images[:8], 2)
    # `flipped` moves each unit towards the other end of the box.
    change = 1 - 2 * units
    size = jnp.sqrt(jnp.mean(change**2, axis=(1, 2, 3), keepdims=True))
    wanted = jnp.clip(units + rms * change / size, 0, 1)
    found = np.asarray(pool.inputs[pool.labels >= 0, 0, 0])
    order, other = (np.lexsort(np.round(a, 4).T) for a in (found, wanted[:, 0, 0]))
    np.testing.assert_allclose(found[order], wanted[other, 0, 0], atol=1e-5)


def test_an_attack_that_fails_is_not_rescaled(model, batch):
    def nothing(logits_fn, images, labels, *, key=None, bounds=(0.0, 1.0)):
        return images

    chosen = mixture(1, rms=0.3)
    state = start(model, chosen)
    after, _ = jax.jit(make_step(model, chosen, nothing))(state, batch)
    units = layerwise.layer_outputs(model, state.model.params, batch.images[:8], 1)
    pool = after.pools[0]
    assert np.isin(pool.inputs[pool.labels >= 0], units).all()


def test_rectified_units_reach_twice_the_largest_of_the_batch(batch):
    """The attack sees units in [0, 1], and the layers above it their true sizes."""
    model = models.FullyConnected(num_classes=3, hidden=(6, 5), activation=nn.relu)
    seen = []

    def attack(logits_fn, images, labels, *, key=None):
        jax.debug.callback(lambda *found: seen.append(found), images, logits_fn(images))
        return jnp.ones_like(images)

    chosen, batch = mixture(1), batch._replace(images=3 * batch.images)
    state = start(model, chosen)
    after, _ = jax.jit(make_step(model, chosen, attack))(state, batch)
    jax.effects_barrier()
    params = state.model.params
    units = layerwise.layer_outputs(model, params, batch.images[:8], 1)
    ((inputs, logits),) = seen
    np.testing.assert_allclose(inputs, units / (2 * units.max()), rtol=1e-6)
    whole = model.apply({"params": params}, batch.images[:8])
    np.testing.assert_allclose(logits, whole, rtol=1e-5, atol=1e-6)
    filled = after.pools[0].inputs[after.pools[0].labels >= 0]
    np.testing.assert_allclose(filled, 2 * units.max(), rtol=1e-6)
