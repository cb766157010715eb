"""Test checkpoints: they restore all bits of a state, or of the one before."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils

from advgan_jax import digest
from advgan_jax.checkpointing import Checkpoints, differences
from advgan_jax.training.states import ClassifierState, ModelState, first_step


def make_state(seed=0, impl=None):
    params = {"kernel": jax.random.normal(jax.random.key(seed), (3, 4))}
    model = ModelState(params, optax.adam(1e-3).init(params))
    key = jax.random.key(seed, impl=impl)
    return ClassifierState(first_step() + seed, key, model, {})


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def spoil(directory, step):
    """Truncate every file of a checkpoint's state."""
    files = [p for p in (directory / str(step) / "state").rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(folder, source, target):
    """Put a whole folder in place of another one."""
    shutil.rmtree(folder / target)
    shutil.copytree(folder / source, folder / target)


@pytest.fixture
def folder(tmp_path):
    """Write three checkpoints, of steps 1 to 3."""
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, make_state(step), {"seed": step})
    return tmp_path


def test_latest_comes_back_with_the_same_bits(folder):
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]
        assert checkpoints.describe() == {"seed": 3}
        assert_same(checkpoints.restore(jax.eval_shape(make_state)), make_state(3))


def test_structure_is_read_from_the_checkpoint(folder):
    with Checkpoints(folder) as checkpoints:
        found = checkpoints.restore()
    state = make_state(3)
    assert set(found) == {"step", "key", "model", "batch_stats"}
    assert int(found["step"]) == 3
    assert_same(found["model"]["params"], state.model.params)
    assert_same(found["key"], state.key)


def test_a_damaged_checkpoint_is_skipped_without_a_structure(folder):
    spoil(folder, 3)
    with Checkpoints(folder) as checkpoints:
        assert int(checkpoints.restore()["step"]) == 2


@pytest.mark.parametrize("like", [None, jax.eval_shape(make_state)])
def test_readable_files_with_other_values_are_damaged(folder, caplog, like):
    """Only the digests reveal them."""
    replace(folder, "1/state", "3/state")
    with caplog.at_level(logging.WARNING), Checkpoints(folder) as checkpoints:
        found = checkpoints.restore(like)
        checkpoints.restore(like)
    (line,) = caplog.messages
    assert "Checkpoint 3" in line
    assert "`key` is not what was saved" in line
    names = dict(digest.named_leaves(found))
    np.testing.assert_array_equal(names["step"], 2)
    np.testing.assert_array_equal(
        names["model/params/kernel"], make_state(2).model.params["kernel"]
    )


def test_a_changed_description_is_damaged(folder, caplog):
    path = folder / "3" / "run" / "metadata"
    sealed = json.loads(path.read_text())
    sealed["value"]["description"]["seed"] = 5
    path.write_text(json.dumps(sealed))
    with caplog.at_level(logging.WARNING), Checkpoints(folder) as checkpoints:
        assert checkpoints.describe() == {"seed": 2}
        assert int(checkpoints.restore()["step"]) == 2
    assert "its digest does not match" in caplog.text


def test_weights_that_are_not_finite_are_damaged(folder, caplog):
    state = make_state(4)
    spoiled = state.model.params["kernel"].at[1, 1].set(jnp.nan)
    with caplog.at_level(logging.WARNING), Checkpoints(folder) as checkpoints:
        model = ModelState({"kernel": spoiled}, state.model.opt_state)
        checkpoints.save(4, state.replace(model=model), {"seed": 4})
        assert_same(checkpoints.restore(make_state()), make_state(3))
    assert "`model/params/kernel` is not finite" in caplog.text


@pytest.mark.parametrize(
    ("saved", "ours", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        (
            {"a": 1},
            {"b": 1},
            ["a is 1 there and None here", "b is None there and 1 here"],
        ),
        (
            {"a": {"b": 1, "c": 2}},
            {"a": {"b": 3, "c": 2}},
            ["a.b is 1 there and 3 here"],
        ),
    ],
)
def test_differences_are_named(saved, ours, found):
    assert differences(saved, ours) == found


def test_relative_paths_are_written_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints("here") as checkpoints:
        checkpoints.save(1, make_state(1), {})
    with Checkpoints(tmp_path / "here") as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(1))


def test_saved_state_is_a_copy(tmp_path):
    """The next step may reuse the memory of the state while it is being written."""
    step = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s.model), donate_argnums=0)
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        step(state)
        assert_same(checkpoints.restore(make_state()), make_state(1))


def test_truncated_checkpoint_falls_back_and_says_so(folder, caplog):
    spoil(folder, 3)
    with caplog.at_level(logging.WARNING), Checkpoints(folder) as checkpoints:
        assert_same(checkpoints.restore(make_state()), make_state(2))
        checkpoints.set_aside_after(2)
        assert checkpoints.steps() == [1, 2]
        # The step is repeated, and its checkpoint may be damaged again.
        checkpoints.save(3, make_state(3), {})
    assert "Checkpoint 3" in caplog.text
    assert "trying the one before" in caplog.text
    assert f"were moved to {folder / 'unreadable'}" in caplog.text
    assert (folder / "unreadable" / "3-0" / "state").is_dir()
    spoil(folder, 3)
    with Checkpoints(folder) as checkpoints:
        checkpoints.set_aside_after(2)
        assert checkpoints.steps() == [1, 2]
    assert (folder / "unreadable" / "3-1" / "state").is_dir()


def test_nothing_whole_is_left(folder):
    for step in (1, 2, 3):
        spoil(folder, step)
    with (
        Checkpoints(folder) as checkpoints,
        pytest.raises(ValueError, match=r"None of the checkpoints \[1, 2, 3\]"),
    ):
        checkpoints.restore(make_state())


def test_no_checkpoint(tmp_path):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(FileNotFoundError, match="No checkpoint in"),
    ):
        checkpoints.restore(make_state())


def test_another_kind_of_key_is_refused(folder):
    with (
        Checkpoints(folder) as checkpoints,
        pytest.raises(ValueError, match="saved by other code"),
    ):
        checkpoints.restore(make_state(impl="rbg"))


def test_saving_does_not_ask_the_runtime_when_to_stop(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        multihost_utils, "reached_preemption_sync_point", lambda i: asked.append(i)
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1), {})
        checkpoints.save(2, make_state(2), {})
    # Only the training loop may call the runtime, with its own numbers.
    assert asked == []
