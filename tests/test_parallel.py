"""Test the modes on one device, their errors, and agreement of processes.

What several devices and processes compute is tested in `tests/distributed`.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models, parallel
from advgan_jax.training import classifier, fit
from advgan_jax.training.precision import mixed_module


def test_unknown_mode():
    with pytest.raises(ValueError, match=r"Unknown parallel mode 'pmapp'.*shard_map"):
        parallel.choose_mode("pmapp")


def test_jit_is_for_one_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="expected one process, got 2; use 'pmap'"):
        parallel.choose_mode("jit")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_modes_on_one_device_equal_jit(digits, dtype):
    model = models.FullyConnected(10, hidden=(8,))
    model = mixed_module(dtype, model)
    step = classifier.make_train_step(model, optax.sgd(0.1))
    rows = np.arange(64).reshape(2, 32)
    results = []
    for mode in ("jit", "pmap", "shard_map"):
        state = classifier.init_state(
            model, optax.sgd(0.1), jax.random.key(0), (8, 8, 1)
        )
        run = parallel.compile_steps(step, mode=mode)
        state, metrics = run(state, fit.on_device(digits.train), rows)
        assert metrics["loss"].shape == (2,)
        results.append(state.model.params)
    for one, *others in zip(*map(jax.tree.leaves, results), strict=True):
        for other in others:
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_a_batch_that_does_not_divide_is_refused(monkeypatch, digits, mode):
    mesh = types.SimpleNamespace(size=3, local_mesh=None)
    monkeypatch.setattr(parallel.steps, "_mapped", lambda run, **_: run)
    monkeypatch.setattr(parallel.steps, "all_devices", lambda: mesh)
    monkeypatch.setattr(parallel.steps, "_sharded", lambda run, **_: run)
    run = parallel.compile_steps(lambda state, batch, *, axis_name: None, mode=mode)
    with pytest.raises(ValueError, match="multiple of the 3 devices, got 32"):
        run(jnp.zeros(()), fit.on_device(digits.train), np.arange(32)[None])


def test_data_is_placed_once(monkeypatch, digits):
    placed = []
    replicate = parallel.steps.replicate

    def counting(tree, mesh):
        placed.append(tree)
        return replicate(tree, mesh)

    monkeypatch.setattr(parallel.steps, "replicate", counting)
    run = parallel.compile_steps(
        lambda state, batch, frozen, *, axis_name: (state + frozen, {}), mode="pmap"
    )
    data, state = fit.on_device(digits.train), jnp.zeros(())
    rows = np.zeros((1, 8), np.int32)
    for frozen in (jnp.ones(()), jnp.full((), 5.0)):
        for _ in range(2):
            rows += 1  # the same array with new values
            state, _ = run(state, data, rows, frozen)
    assert state == 12
    assert [int(order[0, 0]) for (order,) in placed_rows(placed)] == [1, 2, 3, 4]
    copies = [tree for tree in placed if isinstance(tree, tuple)]
    # One copy of the data, one of each frozen argument, one of each call's rows.
    assert sum(tree[0] is data for tree in copies) == 1
    assert len(copies) == 1 + 2 + 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1", None, 0), "got no num_processes; give all of them"),
        ((None, 2, None), "got no coordinator and no process_id"),
        (("localhost:1", 2, 2), r"`process_id` must be in \[0, 2\), got 2"),
    ],
)
def test_an_incomplete_place_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        parallel.start(*given)


def test_a_heartbeat_of_no_time_is_refused():
    with pytest.raises(ValueError, match="`heartbeat` must be at least 1 second, got"):
        parallel.start("localhost:1", 2, 0, heartbeat=0)


def placed_rows(trees):
    return [t for t in trees if isinstance(t, tuple) and isinstance(t[0], np.ndarray)]


def refuse():
    raise KeyError("why")


@pytest.mark.parametrize("action", [lambda: None, refuse])
def test_first_process_acts_and_the_other_hears_of_its_error(monkeypatch, action):
    messages = []

    def broadcast(message):
        messages.append(message)
        return messages[0]

    multihost = parallel.processes.multihost_utils
    monkeypatch.setattr(multihost, "broadcast_one_to_all", broadcast)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    acted, failures = [], []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        try:
            parallel.first_alone(lambda: (acted.append(1), action()))
        except (KeyError, ValueError) as error:
            failures.append(error)
    assert len(acted) == 1
    if action is refuse:
        first, other = failures
        assert isinstance(first, KeyError)
        assert isinstance(other, ValueError)
        assert "why" in str(other)
    else:
        assert not failures


def test_alone_there_is_nothing_to_agree_on():
    assert parallel.is_first()
    assert parallel.num_processes() == 1
    assert parallel.agreed(True)
    assert not parallel.agreed(False)
    with pytest.raises(KeyError, match="why"):
        parallel.first_alone(refuse)


def test_spread_rows_come_back():
    rows = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    (placed,) = parallel.spread((rows,))
    np.testing.assert_array_equal(parallel.fetch(placed, 2), rows[:2])
