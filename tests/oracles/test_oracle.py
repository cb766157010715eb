"""Test oracles: conversion of answers, counts, and rejected input."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax.oracles import BudgetExhausted, Ledger, Oracle, OracleError
from advgan_jax.oracles import from_logits_fn as fused

IMAGES = np.arange(10 * 4, dtype=np.float32).reshape(10, 2, 2, 1) / 64
WEIGHTS = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 1]], np.float32)


def logits(images):
    return images.reshape(-1, 4) @ WEIGHTS


def probabilities(images):
    powers = np.exp(logits(images))
    return powers / powers.sum(axis=1, keepdims=True)


def labels(images):
    return logits(images).argmax(axis=1)


class Model:
    """Record the queried images; calls in `faults` fail."""

    def __init__(self, answer=probabilities, faults=()):
        self.asked, self.calls = [], 0
        self._answer, self._faults = answer, dict(faults)

    def __call__(self, images):
        self.calls += 1
        fault = self._faults.pop(self.calls, None)
        if isinstance(fault, Exception):
            raise fault
        self.asked += list(images)
        return self._answer(images) if fault is None else fault(images)


def oracle(model, answers="probabilities", **options):
    return Oracle(model, answers=answers, num_classes=3, batch_size=4, **options)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("probabilities", probabilities), ("logits", logits), ("labels", labels)],
)
def test_all_answers_become_probabilities(kind, answer):
    wanted = np.eye(3)[labels(IMAGES)] if kind == "labels" else probabilities(IMAGES)
    got = oracle(answer, kind)(IMAGES)
    assert got.dtype == np.float32
    # One rounding to float32 of numbers below one.
    np.testing.assert_allclose(got, wanted, atol=1e-7)


def test_asks_in_batches_and_counts():
    model = Model()
    ask = oracle(model)
    sizes = []
    ask(IMAGES, after_batch=sizes.append)
    assert sizes == [4, 4, 2]
    assert (model.calls, ask.queries, ask.remaining) == (3, 10, None)
    np.testing.assert_array_equal(model.asked, IMAGES)
    ask(IMAGES[:1])
    assert ask.queries == 11
    assert (ask.repeated, ask.changed) == (1, 0)


def test_model_sees_floats_and_may_spoil_them():
    def spoil(images):
        assert images.dtype == np.float32
        answers = probabilities(images)
        images[:] = 7
        return answers

    ask, images = oracle(spoil), np.full((2, 2, 2, 1), 255, np.uint8)
    ask(images)
    assert (ask.ledger.made()[0] == 1).all()


class TestJaxModel:
    @pytest.mark.parametrize("kind", ["probabilities", "logits", "labels"])
    def test_answers_as_on_the_host(self, kind):
        ask = fused(
            lambda x: x.reshape(-1, 4) @ jnp.asarray(WEIGHTS),
            answers=kind,
            num_classes=3,
            batch_size=4,
        )
        host = {"probabilities": probabilities, "logits": logits, "labels": labels}
        # Sums of four products in float32, and its exponential.
        np.testing.assert_allclose(
            ask(IMAGES), oracle(host[kind], kind)(IMAGES), atol=1e-6
        )
        assert ask.queries == 10

    def test_is_compiled_once_for_all_batches(self):
        traces = []

        def logits_fn(images):
            traces.append(images.shape)
            return images.reshape(-1, 4) @ jnp.asarray(WEIGHTS)

        ask = fused(logits_fn, num_classes=3, batch_size=4)
        ask(IMAGES), ask(IMAGES[:1])
        assert traces == [(4, 2, 2, 1)]


class TestBudget:
    def test_ends_with_what_was_answered(self):
        model = Model()
        ask = oracle(model, budget=6)
        with pytest.raises(BudgetExhausted, match=r"6 queries.*of 10 .*first 6") as end:
            ask(IMAGES)
        np.testing.assert_allclose(
            end.value.answers, probabilities(IMAGES[:6]), atol=1e-7
        )
        assert (ask.queries, ask.remaining, len(model.asked)) == (6, 0, 6)
        with pytest.raises(BudgetExhausted, match="first 0"):
            ask(IMAGES)
        assert len(model.asked) == 6

    def test_may_be_spent_to_the_last(self):
        ask = oracle(Model(), budget=10)
        assert ask(IMAGES).shape == (10, 3)
        assert ask.remaining == 0

    def test_is_not_touched_by_the_cache(self):
        ask = oracle(Model(), budget=8, cache=True)
        ask(IMAGES[:4])
        with pytest.raises(BudgetExhausted, match="first 8"):
            ask(IMAGES)
        assert ask(IMAGES[:8]).shape == (8, 3)


class TestCache:
    def test_asks_once_about_each_image(self):
        model = Model()
        ask = oracle(model, cache=True)
        twice = IMAGES[[0, 1, 0, 2, 1]]
        np.testing.assert_allclose(ask(twice), probabilities(twice), atol=1e-7)
        np.testing.assert_array_equal(model.asked, IMAGES[:3])
        ask(IMAGES[:5])
        assert ask.queries == len(model.asked) == 5

    def test_without_it_noise_is_visible(self):
        def noisy(images, state=[0]):  # noqa: B006 (the noise)
            state[0] += 1
            return np.eye(3)[[state[0] % 3] * len(images)]

        ask = oracle(noisy)
        assert (ask(IMAGES[:2]) != ask(IMAGES[:2])).any()
        assert (ask.queries, ask.repeated, ask.changed) == (4, 2, 2)


FAULTS = {
    "raises": (ConnectionError("line is down"), "ConnectionError.*line is down"),
    "shape": (
        lambda x: probabilities(x)[:, :2],
        r"shape \[4, 3\], got float32\[4, 2\]",
    ),
    "labels": (
        labels,
        "`answers` to what the model returns .probabilities, logits, lab",
    ),
    "nan": (lambda x: probabilities(x) * np.nan, "finite probabilities"),
    "sums": (lambda x: 2 * probabilities(x), "rows that sum to one"),
    "negative": (lambda x: -probabilities(x), "at least 0"),
    "none": (lambda x: None, "floats of shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_names_its_batch_and_is_made_good(fault, tmp_path):
    """Only the batch that failed is asked about again, and that is counted."""
    answer, message = FAULTS[fault]
    model = Model(faults={2: answer})
    ask = oracle(model, ledger=Ledger(tmp_path / "q"))
    with pytest.raises(OracleError, match=rf"(?s)batch 1 \(4 images\).*{message}") as e:
        ask(IMAGES)
    assert (e.value.batch, e.value.queries, ask.queries) == (1, 4, 4)
    assert (e.value.wasted, ask.wasted) == (4, 4)
    # The model records nothing where it raises.
    twice = 0 if fault == "raises" else 4
    if fault == "raises":
        assert e.value.__cause__ is answer
    again = oracle(model, ledger=Ledger(tmp_path / "q"))
    np.testing.assert_allclose(again(IMAGES), probabilities(IMAGES), atol=1e-7)
    asked = [*IMAGES[:4], *IMAGES[4 : 4 + twice], *IMAGES[4:]]
    np.testing.assert_array_equal(model.asked, asked)
    assert (again.queries, again.wasted) == (10, 0)


def test_answers_before_an_unusable_one_are_kept():
    def spoilt(images):
        return np.where(np.arange(len(images)) == 2, 3, labels(images))

    model = Model(labels, faults={2: spoilt})
    ask = oracle(model, "labels")
    with pytest.raises(OracleError, match=r"image 2.*\D6 queries.*2 images were") as e:
        ask(IMAGES)
    assert (ask.queries, e.value.wasted, ask.wasted) == (6, 2, 2)
    ask.rewind(0)
    np.testing.assert_array_equal(ask(IMAGES), oracle(labels, "labels")(IMAGES))
    np.testing.assert_array_equal(model.asked, [*IMAGES[:8], *IMAGES[6:]])
    assert ask.queries == 10


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (probabilities, r"labels, integers of shape \[4\].*take `argmax"),
        (lambda x: labels(x).astype(float), "integers"),
        (lambda x: labels(x) + 3, "from 0 to 2, got [345] for its image 0"),
    ],
)
def test_labels_that_are_none(answer, message):
    with pytest.raises(OracleError, match=message):
        oracle(answer, "labels")(IMAGES)


def test_logits_are_no_probabilities():
    with pytest.raises(OracleError, match="set answers='logits'"):
        oracle(logits)(IMAGES + 1 - IMAGES)


class TestTimeout:
    def test_too_slow(self):
        ask = oracle(lambda images: time.sleep(30), timeout=0.05)
        start = time.monotonic()
        with pytest.raises(OracleError, match=r"batch 0.*within `timeout` = 0.05 s"):
            ask(IMAGES)
        assert time.monotonic() - start < 10
        assert ask.queries == 0

    def test_fast_enough_or_failing_by_itself(self):
        model = Model(faults={1: ValueError("no")})
        ask = oracle(model, timeout=30)
        with pytest.raises(OracleError, match=r"ValueError\('no'\)"):
            ask(IMAGES)
        assert ask(IMAGES).shape == (10, 3)


def test_interrupted_between_batches(tmp_path):
    model = Model()

    def stop(count):
        if model.calls == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        oracle(model, ledger=Ledger(tmp_path / "q"))(IMAGES, after_batch=stop)
    oracle(model, ledger=Ledger(tmp_path / "q"))(IMAGES)
    np.testing.assert_array_equal(model.asked, IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": "label"}, r"Unknown kind of answers 'label'.*'labels'"),
        ({"num_classes": 1}, "`num_classes`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"budget": 0}, "`budget`"),
        ({"timeout": 0}, "`timeout` must be above 0"),
    ],
)
def test_wrong_options(options, message):
    usual = {"answers": "labels", "num_classes": 3}
    with pytest.raises(ValueError, match=message):
        Oracle(labels, **usual | options)


def test_wrong_images_and_models():
    with pytest.raises(ValueError, match=r"shape \[B, H, W, C\]"):
        oracle(probabilities)(IMAGES[0])
    with pytest.raises(ValueError, match="within bounds"):
        oracle(probabilities)(IMAGES * 100)
    with pytest.raises(TypeError, match=r"model.predict_proba"):
        oracle(3)
