"""Made things: made once, found by what decides them, complete or absent."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks, parallel
from advgan_jax.data import to_float
from advgan_jax.evaluation import evaluate, evaluate_adversarial
from advgan_jax.reporting import formats, store
from advgan_jax.reporting.store import Store


@pytest.fixture
def counted():
    """A maker of 0, 1, 2, ..."""
    return iter(range(100)).__next__


def test_a_thing_is_made_once(tmp_path, counted):
    things = Store(tmp_path)
    assert things.find("rows/a b", {"seed": 0}) is None
    assert things.get("rows/a b", {"seed": 0}, counted) == 0
    assert things.get("rows/a b", {"seed": 0}, counted) == 0
    assert Store(tmp_path).find("rows/a b", {"seed": 0}) == 0
    assert things.get("rows/a b", {"seed": 1}, counted) == 1
    assert things.get("rows/c", {"seed": 0}, counted) == 2
    assert len(list((tmp_path / "rows").iterdir())) == 3


def test_order_of_settings_does_not_matter(tmp_path):
    things = Store(tmp_path)
    one, other = {"seed": 0, "net": {"b": 1, "a": (2,)}}, {"net": {"a": [2], "b": 1}}
    assert things.folder("x", one) == things.folder("x", other | {"seed": 0})
    assert things.folder("x", one) != things.folder("x", other | {"seed": 1})


def test_names_hold_for_another_process():
    """Unlike those that Python's own `hash` would give."""
    code = (
        "from advgan_jax.reporting.store import fingerprint as f; print(f({'a': [1]}))"
    )
    found = subprocess.check_output(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "1"}
    )
    assert found == f"{store.fingerprint({'a': [1]})}\n".encode()


def test_what_fails_leaves_nothing(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get("x", {}, fail)
    assert not list(tmp_path.iterdir())


def test_results_of_other_data_are_others(tmp_path, counted):
    assert Store(tmp_path, ["a", "b", 10]).get("x", {}, counted) == 0
    assert Store(tmp_path, ["a", "c", 10]).get("x", {}, counted) == 1
    assert Store(tmp_path, ["a", "b", 10]).get("x", {}, counted) == 0


def test_settings_must_be_json(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        Store(tmp_path).folder("x", {"model": object()})


def test_names_stay_within_the_store(tmp_path):
    folder = Store(tmp_path).folder("rows/AdvGAN, fitted: <all>", {})
    assert folder.parent == tmp_path / "rows"
    assert folder.name.startswith("AdvGAN_fitted_all_-")


def test_processes_make_together_what_the_first_does_not_have(
    tmp_path, counted, monkeypatch
):
    """One that sees a file late or early must not act alone."""
    Store(tmp_path).get("x", {}, counted)
    monkeypatch.setattr(parallel, "agreed", lambda found: False)
    assert Store(tmp_path).get("x", {}, counted) == 1


def test_arrays(tmp_path):
    images = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
    Store(tmp_path).get("x", {}, lambda: images, formats.ARRAY)
    found = Store(tmp_path).find("x", {}, formats.ARRAY)
    np.testing.assert_array_equal(found, images)
    assert found.dtype == np.float32


def test_params(tmp_path):
    params = {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "b": jnp.ones(1)}
    Store(tmp_path).get("x", {}, lambda: params, formats.PARAMS)
    found = Store(tmp_path).find("x", {}, formats.PARAMS)
    np.testing.assert_array_equal(found["a"]["kernel"], np.ones((2, 3)))
    assert set(found) == {"a", "b"}


def test_evaluations(tmp_path, digits, digits_logits_fn):
    test = digits.test.take(4)
    clean = to_float(test.images)
    plain = evaluate_adversarial(
        digits_logits_fn, test.images, clean, test.labels, batch_size=4
    )
    made = {None: plain, 0.25: plain, 3: plain}
    Store(tmp_path).get("x", {}, lambda: made, formats.EVALUATIONS)
    found = Store(tmp_path).find("x", {}, formats.EVALUATIONS)
    assert list(found) == [None, 0.25, 3]
    assert [type(key) for key in found] == [type(None), float, int]
    for evaluation in found.values():
        np.testing.assert_array_equal(evaluation.linf, plain.linf)
        assert evaluation.target_labels is plain.target_labels is None
        assert evaluation.seconds == plain.seconds
        assert evaluation.clean_accuracy == plain.clean_accuracy


def test_evaluations_of_rounded_images(tmp_path, digits, digits_logits_fn):
    test, fgsm = digits.test.take(4), attacks.make_attack("fgsm", epsilon=0.1)
    made = evaluate(digits_logits_fn, fgsm, test.images, test.labels, levels=256)
    Store(tmp_path).get("x", {}, lambda: {None: made}, formats.EVALUATIONS)
    found = Store(tmp_path).find("x", {}, formats.EVALUATIONS)[None]
    assert found.bounds == made.bounds == (0.0, 1.0)
    assert found.rounded.rounded is None
    np.testing.assert_array_equal(found.rounded.linf, made.rounded.linf)
    np.testing.assert_array_equal(found.linf, made.linf)
