"""Digests change with every bit, and with nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import digest
from advgan_jax.training.states import ModelState

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "other",
    [
        ARRAY.astype(np.float64),
        ARRAY.reshape(3, 2),
        ARRAY.view(np.int32),
        np.nextafter(ARRAY, np.float32(9)),
        np.where(ARRAY == 0, np.float32(-0.0), ARRAY),
        ARRAY.astype(jnp.bfloat16),
    ],
)
def test_another_array_has_another_digest(other):
    assert digest.of_array(other) != digest.of_array(ARRAY)


def test_the_same_values_have_the_same_digest():
    for same in (jnp.asarray(ARRAY), np.asfortranarray(ARRAY), np.repeat(ARRAY, 2, 0)):
        same = same[::2] if len(same) > 2 else same
        assert digest.of_array(same) == digest.of_array(ARRAY)
    assert digest.of_array(np.empty((0, 3))) == digest.of_array(np.ones((0, 3)))


def test_keys_differ_in_kind_and_value():
    keys = (jax.random.key(0), jax.random.key(1), jax.random.key(0, impl="rbg"))
    raw = jax.random.key_data(keys[0])
    assert len({digest.of_array(key) for key in (*keys, raw)}) == 4


def test_a_state_and_its_dictionary_have_the_same_names():
    state = ModelState({"kernel": ARRAY}, ((), (ARRAY[0],)))
    as_dict = {"opt_state": {"1": [ARRAY[0]]}, "params": {"kernel": ARRAY}}
    assert digest.of_arrays(state) == digest.of_arrays(as_dict)
    assert set(digest.of_arrays(state)) == {"params/kernel", "opt_state/1/0"}


def test_sealed_values_are_those_that_were_sealed():
    sealed = digest.seal({"b": [0.1, None], "a": {"2": 1, "10": 2}})
    assert digest.unseal(sealed) == {"a": {"10": 2, "2": 1}, "b": [0.1, None]}
    assert digest.seal({1: (2,)})["digest"] == digest.seal({"1": [2]})["digest"]
    sealed["value"]["b"][0] = 0.2
    with pytest.raises(ValueError, match="digest does not match"):
        digest.unseal(sealed)
    for other in ({"value": 1}, [1], {**sealed, "more": 1}):
        with pytest.raises(ValueError, match="no digest"):
            digest.unseal(other)
