"""Test the alternation: its queries, how it resumes, and when it stops."""

import logging
import time

import jax
import numpy as np
import optax
import pytest

from advgan_jax import models
from advgan_jax.oracles import Ledger, Oracle, OracleError
from advgan_jax.training import advgan, blackbox, fit
from advgan_jax.training.blackbox import alternation

ATTACKER = blackbox.Attacker(
    advgan.Networks(
        models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=0),
        models.Discriminator(widths=(4,)),
        optax.adam(1e-2, b1=0.5),
        optax.adam(1e-3),
    ),
    advgan.AdvGANObjective(epsilon=0.3, confidence=10.0),
    models.FullyConnected(num_classes=10),
    optax.adam(1e-2),
)
SCHEDULE = blackbox.Schedule(
    num_rounds=3,
    generator_steps=3,
    distilled_steps=2,
    initial_epochs=2,
    clean_queries=20,
    perturbed_queries=6,
    generator_batch_size=8,
    distilled_batch_size=8,
)

# A resumed oracle sends so many recorded images again, to know its model.
PROBED = 3


class Model:
    """A linear black box that records its queries."""

    def __init__(self, fault=None):
        self.asked, self.fault = [], fault
        self._weights = np.random.default_rng(0).normal(size=(64, 10))

    def __call__(self, images):
        if self.fault is not None and len(self.asked) >= self.fault:
            raise OSError("line is down")
        self.asked += list(images)
        return np.argmax(images.reshape(-1, 64) @ self._weights, axis=1)


@pytest.fixture(scope="module")
def data(digits):
    return digits.train.images[:40], digits.train.labels[:40]


def oracle(model, path=None, **options):
    return Oracle(
        model,
        answers="labels",
        num_classes=10,
        batch_size=4,
        ledger=Ledger(path),
        **{"probe": PROBED, **options},
    )


def train(ask, data, schedule=SCHEDULE, state=None, **hooks):
    if state is None:
        state = blackbox.init_state(ATTACKER, schedule, jax.random.key(0), (8, 8, 1))
    record = hooks.pop("record", lambda state, number: None)
    return blackbox.fit(
        state,
        ask,
        *data,
        ATTACKER,
        schedule,
        mode="jit",
        hooks=fit.Hooks(**hooks),
        record=record,
    )


def assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, plain(one), plain(two))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Run from end to end, and return all saved states."""
    path = tmp_path_factory.mktemp("whole") / "queries"
    model, saved, rounds = Model(), [], []
    state, finished = train(
        oracle(model, path),
        data,
        save=lambda step, state: saved.append(plain(state)),
        record=lambda state, number: rounds.append((number, int(state.queries.max()))),
    )
    assert finished
    return state, saved, rounds, model, path


def plain(state):
    """Copy a state to numpy, with keys as numbers, because states are donated."""
    key = jax.random.key_data
    state = state.replace(
        advgan=state.advgan.replace(key=key(state.advgan.key)),
        distilled=state.distilled.replace(key=key(state.distilled.key)),
    )
    return jax.tree.map(np.array, state)


def unplain(state):
    key = jax.random.wrap_key_data
    state = jax.tree.map(jax.numpy.array, state)
    return state.replace(
        advgan=state.advgan.replace(key=key(state.advgan.key)),
        distilled=state.distilled.replace(key=key(state.distilled.key)),
    )


def test_asks_about_clean_images_then_about_what_the_generator_made_of_them(
    whole, data
):
    state, _, rounds, model, _ = whole
    asked, images = np.array(model.asked), data[0]
    assert len(asked) == 20 + 2 * 6
    assert rounds == [(1, 20), (2, 26), (3, 32)]
    np.testing.assert_array_equal(state.queries, [20, 26, 32])
    distance = np.abs(asked[:, None] - images[None]).max(axis=(2, 3, 4))
    nearest = distance.min(axis=1)
    assert (nearest[:20] == 0).all()
    assert len(set(distance[:20].argmin(axis=1))) == 20
    assert (nearest[20:] > 0).all()
    assert (nearest[20:] <= 0.3 + 1e-6).all()
    assert (state.advgan.step, state.distilled.step) == (9, 8)


def test_resumes_from_every_saved_state_and_asks_nothing_twice(whole, data):
    final, saved, _, _, path = whole
    steps = [int(state.step) for state in saved]
    assert steps == [2, 4, 7, 9, 12, 14, 17]
    for state in saved:
        model = Model()
        resumed, finished = train(oracle(model, path), data, state=unplain(state))
        assert finished
        assert_same(resumed, final)
        assert len(model.asked) in (0, PROBED)


def test_killed_while_asking(whole, data, tmp_path):
    """The second batch of the second round has no answer, and nothing is saved."""
    final, saved, *_ = whole
    model = Model(fault=30)
    with pytest.raises(OracleError, match=r"batch 1 \(2 images\).*line is down") as end:
        train(oracle(model, tmp_path / "q"), data)
    assert end.value.queries == 30
    mended = Model()
    last = unplain(saved[4])
    assert int(last.step) == 12
    resumed, _ = train(oracle(mended, tmp_path / "q"), data, state=last)
    assert len(mended.asked) == 2 + PROBED
    assert_same(resumed, final)


@pytest.mark.parametrize("after", [3, 9, 14, 25])
def test_stopped_at_any_moment(whole, data, tmp_path, after):
    """Stop during queries, during the steps of either network, or in between."""
    final, model, saved, asked = whole[0], Model(), {}, []

    def stop():
        asked.append(1)
        return len(asked) >= after

    ask = oracle(model, tmp_path / "q")
    _, finished = train(
        ask, data, save=lambda step, s: saved.setdefault(step, plain(s)), stop=stop
    )
    assert not finished
    last = unplain(saved[max(saved)]) if saved else None
    resumed, finished = train(oracle(model, tmp_path / "q"), data, state=last)
    assert finished
    assert_same(resumed, final)
    assert len(model.asked) == 32 + PROBED


def test_static_spends_the_same_on_clean_images_at_once(data):
    schedule = blackbox.Schedule(**{**SCHEDULE.__dict__, "dynamic": False})
    model, rounds = Model(), []
    state, _ = train(
        oracle(model), data, schedule, record=lambda s, number: rounds.append(number)
    )
    assert len(model.asked) == 32
    assert len({image.tobytes() for image in model.asked}) == 32
    assert {a.tobytes() for a in model.asked} <= {a.tobytes() for a in data[0]}
    assert rounds == [3]
    assert (state.advgan.step, state.distilled.step) == (9, 8)
    with pytest.raises(ValueError, match="has 31 images and would ask about 32"):
        train(oracle(model), (data[0][:31], data[1][:31]), schedule)


def test_budget_ends_the_asking_and_not_the_training(data, caplog):
    model = Model()
    with caplog.at_level(logging.WARNING):
        state, finished = train(oracle(model, budget=23), data)
    assert finished
    assert len(model.asked) == 23
    np.testing.assert_array_equal(state.queries, [20, 23, 23])
    assert "budget of 23 queries is exhausted" in caplog.text
    assert (state.advgan.step, state.distilled.step) == (9, 8)


def test_spent_budget_is_told_once_and_nothing_more_is_asked(data, caplog, monkeypatch):
    """The first series of queries exhausts the budget."""
    made, perturb = [], alternation.perturb_images
    monkeypatch.setattr(
        alternation, "perturb_images", lambda *args: made.append(1) or perturb(*args)
    )
    with caplog.at_level(logging.WARNING):
        state, finished = train(oracle(Model(), budget=20), data)
    assert finished
    assert not made
    np.testing.assert_array_equal(state.queries, [20, 20, 20])
    assert [r.message for r in caplog.records] == [
        "The budget of 20 queries is spent. Training continues without further answers."
    ]


def test_labels_are_not_needed(data):
    state, finished = train(oracle(Model()), (data[0], None))
    assert finished
    assert int(state.queries.max()) == 32


def test_oracle_that_was_asked_before_is_not_taken_for_this_trainings(data):
    model = Model()
    ask = oracle(model)
    ask(data[0][:3])
    with pytest.raises(ValueError, match=r"got one with 3 quer.*`oracle.rewind\(0\)`"):
        train(ask, data)
    assert len(model.asked) == ask.queries == 3


def test_wrong_data(data):
    images, labels = data
    with pytest.raises(TypeError, match="must be uint8 or floating, got int64"):
        train(oracle(Model()), (images.astype(int), labels))
    with pytest.raises(ValueError, match="within bounds"):
        train(oracle(Model()), (images * 16, labels))
    with pytest.raises(ValueError, match=r"shape \(40,\)"):
        train(oracle(Model()), (images, labels[:39]))
    three = Oracle(Model(), answers="labels", num_classes=3)
    with pytest.raises(ValueError, match=r"the 3 classes of the oracle.*\[1, 10\]"):
        train(three, (images, None))


@pytest.mark.parametrize(("replay", "last"), [(True, (20, 32)), (False, (26, 32))])
def test_replay_keeps_the_perturbed_images_of_earlier_rounds(
    data, monkeypatch, replay, last
):
    seen, in_turn = [], alternation.in_turn

    def noting(first, count, *others):
        seen.extend(others)
        return in_turn(first, count, *others)

    monkeypatch.setattr(alternation, "in_turn", noting)
    schedule = blackbox.Schedule(**{**SCHEDULE.__dict__, "replay": replay})
    assert train(oracle(Model()), data, schedule)[1]
    assert seen == [(20, 20), (20, 20), (20, 26), last]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "probed"),  # a static run asks everything before it is stopped
    [({"dynamic": False}, 0), ({"labels": None}, PROBED)],
)
def test_stopped_and_resumed_without_rounds_or_labels(data, tmp_path, changes, probed):
    data = (data[0], changes.pop("labels", data[1]))
    schedule = blackbox.Schedule(**{**SCHEDULE.__dict__, **changes})
    final, _ = train(oracle(Model()), data, schedule)
    saved, model = {}, Model()
    _, finished = train(
        oracle(model, tmp_path / "q"),
        data,
        schedule,
        save=lambda step, s: saved.setdefault(step, plain(s)),
        stop=lambda: max(saved, default=0) >= 7,
    )
    assert not finished
    last = unplain(saved[max(saved)])
    resumed, finished = train(oracle(model, tmp_path / "q"), data, schedule, last)
    assert finished
    assert_same(resumed, final)
    assert len(model.asked) == 32 + probed


def test_too_slow_black_box_is_told_and_a_cache_changes_nothing(whole, data, tmp_path):
    def slow(images):
        time.sleep(1)

    with pytest.raises(OracleError, match=r"batch 0.*within `timeout` = 0.05 s"):
        train(oracle(slow, tmp_path / "q", timeout=0.05), data)
    model = Model()
    state, _ = train(oracle(model, tmp_path / "q", cache=True), data)
    assert_same(state, whole[0])
    assert len(model.asked) == 32
