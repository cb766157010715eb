"""Test oracles: conversion of answers, counts, and rejected input."""

import concurrent.futures
import time

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

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

    def test_is_compiled_once_for_all_batches(self, compiles):
        def logits_fn(images):
            return images.reshape(-1, 4) @ WEIGHTS - 7.0

        ask = fused(logits_fn, num_classes=3, batch_size=4)
        with compiles(1):
            ask(IMAGES), ask(IMAGES[:1])


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

    def test_bounds_what_a_failing_model_is_asked(self, tmp_path):
        """Over processes, each of which ends with the first failure."""
        model = Model(faults=dict.fromkeys(range(1, 100), lambda images: None))
        ends = []
        for _ in range(10):
            ask = oracle(model, budget=18, ledger=Ledger(tmp_path / "q"))
            with pytest.raises((OracleError, BudgetExhausted)) as end:
                ask(IMAGES)
            ends.append(end.type)
        assert len(model.asked) == ask.wasted == 18
        assert ask.remaining == 0
        assert ends == 5 * [OracleError] + 5 * [BudgetExhausted]

    def test_bounds_what_threads_ask_together(self):
        asked = []

        def model(images):
            asked.extend(images)
            return probabilities(images)

        class Slow(Ledger):
            def send(self, *args):
                time.sleep(0.002)  # other threads see the budget before this count
                super().send(*args)

        ask = oracle(model, budget=50, ledger=Slow())

        def run():
            for _ in range(10):
                try:
                    answers = ask(IMAGES)
                except BudgetExhausted as end:
                    answers = end.answers
                wanted = probabilities(IMAGES[: len(answers)])
                np.testing.assert_allclose(answers, wanted, atol=1e-7)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(run) for _ in range(4)]:
                done.result()
        assert len(asked) == ask.queries == len(ask.ledger) == 50
        assert (ask.remaining, ask.repeated, ask.changed) == (0, 40, 0)

    def test_may_be_raised(self):
        ask = oracle(Model(), budget=6)
        with pytest.raises(BudgetExhausted):
            ask(IMAGES)
        ask.budget = 16
        assert ask(IMAGES).shape == (10, 3)
        assert ask.remaining == 0


class TestLedgerOfAnotherModel:
    """An opened ledger is used only if the model repeats its answers."""

    def test_is_rejected(self, tmp_path):
        oracle(probabilities, ledger=Ledger(tmp_path / "q"))(IMAGES)
        model = Model(lambda images: probabilities(images)[:, ::-1])
        other = oracle(model, ledger=Ledger(tmp_path / "q"))
        message = r"of 3 recorded images .* 3 got another answer and 3 another class"
        for number in (1, 2):  # the second attempt is no safer
            with pytest.raises(ValueError, match=message):
                other(IMAGES)
            assert (other.queries, other.measured) == (0, 6 * number)
        assert len(model.asked) == 12

    def test_with_labels_alone(self, tmp_path):
        ask = oracle(labels, "labels", ledger=Ledger(tmp_path / "q"))
        ask(IMAGES)

        def nearly(images):  # the last image alone gets another class
            last = (images == IMAGES[9]).all(axis=(1, 2, 3))
            return np.where(last, 0, labels(images))

        with pytest.raises(ValueError, match="1 got another answer and 1 another cl"):
            oracle(nearly, "labels", ledger=Ledger(tmp_path / "q"))(IMAGES)

    def test_the_right_one_is_asked_about_three_images(self, tmp_path):
        oracle(probabilities, ledger=Ledger(tmp_path / "q"))(IMAGES[:6])
        model = Model()
        ask = oracle(model, ledger=Ledger(tmp_path / "q"), budget=14)
        ask(IMAGES), ask(IMAGES[:1])
        assert (ask.queries, ask.measured, ask.remaining) == (11, 3, 0)
        certainty = probabilities(IMAGES[:6]).max(axis=1)
        least = IMAGES[np.argsort(certainty, kind="stable")[:3]]
        np.testing.assert_array_equal(model.asked, [*least, *IMAGES[6:], IMAGES[0]])

    def test_noisy_models_may_resume(self, tmp_path):
        rng = np.random.default_rng(0)

        def noisy(images):
            table = probabilities(images) + rng.uniform(0, 0.05, (len(images), 3))
            return table / table.sum(axis=1, keepdims=True)

        oracle(noisy, ledger=Ledger(tmp_path / "q"))(IMAGES[:6])
        ask = oracle(noisy, ledger=Ledger(tmp_path / "q"))
        assert ask(IMAGES).shape == (10, 3)
        assert (ask.queries, ask.measured) == (10, 6)

    def test_without_a_budget_to_check_it_there_is_a_warning(self, tmp_path, caplog):
        oracle(probabilities, ledger=Ledger(tmp_path / "q"))(IMAGES[:6])
        ask = oracle(
            None or labels, "probabilities", ledger=Ledger(tmp_path / "q"), budget=6
        )
        ask(IMAGES[:6])
        assert "budget of 6 images is spent" in caplog.text

    def test_weights_name_a_jax_model(self, tmp_path):
        def model(weights, x):
            return x.reshape(-1, 4) @ weights

        def make(scale):
            weights = jnp.asarray(WEIGHTS * scale)
            return fused(
                Partial(model, weights), num_classes=3, ledger=Ledger(tmp_path / "q")
            )

        make(1)(IMAGES[:6])
        ask = make(1)
        ask(IMAGES)
        assert (ask.queries, ask.measured) == (10, 0)
        with pytest.raises(ValueError, match="must hold answers of the model '"):
            make(2)


def test_labels_of_a_model_that_agrees_on_nine_of_ten_images(tmp_path):
    """Three images would reveal it in 27 % of the cases only."""
    images = np.random.default_rng(0).random((100, 2, 2, 1), np.float32)
    oracle(labels, "labels", ledger=Ledger(tmp_path / "q"))(images)
    other = [tuple(image.ravel()) for image in images[::10]]

    def similar(images):
        differs = np.array([tuple(image.ravel()) in other for image in images])
        return (labels(images) + differs) % 3

    again = oracle(similar, "labels", ledger=Ledger(tmp_path / "q"))
    with pytest.raises(ValueError, match="must hold answers of this model, but of 30"):
        again(images)


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
    again = oracle(model, ledger=Ledger(tmp_path / "q"), probe=0)
    assert (again.queries, again.wasted) == (0, 4)
    np.testing.assert_allclose(again(IMAGES), probabilities(IMAGES), atol=1e-7)
    asked = [*IMAGES[:4], *IMAGES[4 : 4 + twice], *IMAGES[4:]]
    np.testing.assert_array_equal(model.asked, asked)
    assert (again.queries, again.wasted) == (10, 4)


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
    oracle(model, ledger=Ledger(tmp_path / "q"), probe=0)(IMAGES)
    np.testing.assert_array_equal(model.asked, IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": "label"}, r"Unknown kind of answers 'label'.*'labels'"),
        ({"num_classes": 1}, "`num_classes` must be .* >= 2, got 1"),
        ({"num_classes": 3.0}, "`num_classes` must be an integer >= 2, got 3.0"),
        ({"batch_size": 0}, "`batch_size` must be .* >= 1, got 0"),
        ({"batch_size": True}, "`batch_size` must be an integer >= 1, got True"),
        ({"batch_size": "8"}, "`batch_size` must be an integer >= 1, got '8'"),
        ({"budget": 0}, "`budget` must be .* >= 1, got 0"),
        ({"budget": 1.5}, "`budget` must be an integer >= 1, got 1.5 of type float"),
        ({"budget": float("inf")}, "`budget` must be an integer >= 1, got inf"),
        ({"probe": -1}, "`probe` must be .* >= 0, got -1"),
        ({"timeout": 0}, "`timeout` must be above 0 seconds and finite, got 0"),
        ({"timeout": float("inf")}, "`timeout` must be above 0 .* got inf; omit it"),
        ({"timeout": float("nan")}, "`timeout` must be above 0 .* got nan"),
        ({"timeout": 1e30}, "`timeout` must be above 0 .* got 1e\\+30"),
        ({"timeout": "3"}, "`timeout` must be a number of seconds, got '3'"),
        ({"cache": "no"}, "`cache` must be a bool, got 'no'"),
        ({"ledger": "queries.ledger"}, "`ledger` must be a Ledger, got 'queries"),
        ({"name": 3}, "`name` must be a str, got 3"),
    ],
)
def test_wrong_options_are_rejected_before_the_model_is_asked(options, message):
    usual = {"answers": "labels", "num_classes": 3}
    with pytest.raises((ValueError, TypeError), match=message):
        Oracle(labels, **usual | options)


def test_wrong_arguments_of_methods():
    ask = oracle(probabilities)
    ask(IMAGES)
    for call in (ask.measure_noise, ask.rewind):
        with pytest.raises(TypeError, match=r"must be an integer >= 0, got 1\.5"):
            call(1.5)
    with pytest.raises(TypeError, match=r"`budget` must be an integer"):
        ask.budget = 2.5


def test_wrong_images_and_models():
    with pytest.raises(ValueError, match=r"shape \[B, H, W, C\]"):
        oracle(probabilities)(IMAGES[0])
    with pytest.raises(ValueError, match="within bounds"):
        oracle(probabilities)(IMAGES * 100)
    with pytest.raises(TypeError, match=r"model.predict_proba"):
        oracle(3)
