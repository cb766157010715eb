"""The alternation: who is asked about what, that it resumes, and when it stops."""

import logging

import jax
import numpy as np
import optax
import pytest

from advgan_jax import models
from advgan_jax.oracles import Ledger, Oracle, OracleError
from advgan_jax.training import advgan, blackbox, loop
from advgan_jax.training.blackbox.sampling import in_turn

ATTACKER = blackbox.Attacker(
    advgan.Networks(
        models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=0),
        models.Discriminator(widths=(4,)),
        optax.adam(1e-2, b1=0.5),
        optax.adam(1e-3),
    ),
    advgan.Objective(epsilon=0.3, confidence=10.0),
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


class Model:
    """A linear black box that notes what it was asked."""

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
        **options,
    )


def fit(ask, data, schedule=SCHEDULE, state=None, **hooks):
    if state is None:
        state = blackbox.init_state(ATTACKER, schedule, jax.random.key(0), (8, 8, 1))
    record = hooks.pop("record", lambda state, number: None)
    hooks = blackbox.Hooks(loop.Hooks(**hooks), record)
    return blackbox.fit(state, ask, *data, ATTACKER, schedule, mode="jit", hooks=hooks)


def leaves(state):
    state = jax.tree.map(
        lambda a: (
            jax.random.key_data(a)
            if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
            else a
        ),
        state,
    )
    return jax.tree.leaves(jax.device_get(state))


def assert_same(one, two):
    for a, b in zip(leaves(one), leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run from end to end, and all the states that it saved."""
    path = tmp_path_factory.mktemp("whole") / "queries"
    model, saved, rounds = Model(), [], []
    state, finished = fit(
        oracle(model, path),
        data,
        save=lambda step, state: saved.append(plain(state)),
        record=lambda state, number: rounds.append((number, int(state.queries.max()))),
    )
    assert finished
    return state, saved, rounds, model, path


def plain(state):
    """A copy in numpy, keys as what they are made of: states are donated."""
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
        resumed, finished = fit(oracle(model, path), data, state=unplain(state))
        assert finished
        assert_same(resumed, final)
        assert not model.asked


def test_killed_while_asking(whole, data, tmp_path):
    """The second batch of the second round is never answered, and nothing is saved."""
    final, saved, *_ = whole
    model = Model(fault=30)
    with pytest.raises(OracleError, match=r"batch 1 \(2 images\).*line is down") as end:
        fit(oracle(model, tmp_path / "q"), data)
    assert end.value.queries == 30
    mended = Model()
    last = unplain(saved[4])
    assert int(last.step) == 12
    resumed, _ = fit(oracle(mended, tmp_path / "q"), data, state=last)
    assert len(mended.asked) == 2
    assert_same(resumed, final)


@pytest.mark.parametrize("after", [3, 9, 14, 25])
def test_stopped_at_any_moment(whole, data, tmp_path, after):
    """While asking, in the steps of either network, or between."""
    final, model, saved, asked = whole[0], Model(), {}, []

    def stop():
        asked.append(1)
        return len(asked) >= after

    ask = oracle(model, tmp_path / "q")
    _, finished = fit(
        ask, data, save=lambda step, s: saved.setdefault(step, plain(s)), stop=stop
    )
    assert not finished
    last = unplain(saved[max(saved)]) if saved else None
    resumed, finished = fit(oracle(model, tmp_path / "q"), data, state=last)
    assert finished
    assert_same(resumed, final)
    assert len(model.asked) == 32


def test_static_spends_the_same_on_clean_images_at_once(data):
    schedule = blackbox.Schedule(**{**SCHEDULE.__dict__, "dynamic": False})
    model, rounds = Model(), []
    state, _ = fit(
        oracle(model), data, schedule, record=lambda s, number: rounds.append(number)
    )
    assert len(model.asked) == 32
    assert len({image.tobytes() for image in model.asked}) == 32
    assert {a.tobytes() for a in model.asked} <= {a.tobytes() for a in data[0]}
    assert rounds == [3]
    assert (state.advgan.step, state.distilled.step) == (9, 8)
    with pytest.raises(ValueError, match="has 31 images and would ask about 32"):
        fit(oracle(model), (data[0][:31], data[1][:31]), schedule)


def test_budget_ends_the_asking_and_not_the_training(data, caplog):
    model = Model()
    with caplog.at_level(logging.WARNING):
        state, finished = fit(oracle(model, budget=23), data)
    assert finished
    assert len(model.asked) == 23
    np.testing.assert_array_equal(state.queries, [20, 23, 23])
    assert "budget of 23 queries is exhausted" in caplog.text
    assert (state.advgan.step, state.distilled.step) == (9, 8)


def test_labels_are_not_needed(data):
    state, finished = fit(oracle(Model()), (data[0], None))
    assert finished
    assert int(state.queries.max()) == 32


@pytest.mark.parametrize("count", [5, 16, 40])
def test_images_are_seen_in_turn_half_of_them_clean(count):
    """Over whole epochs none is seen twice more often than another."""
    seen = []

    def run(state, data, rows):
        seen.append(rows)

    for epoch in range(10):
        places = np.random.default_rng(epoch).permutation(32).reshape(4, 1, 8)
        mapped = in_turn(run, 32 * epoch, count, (count, count + 3))
        for rows in places:
            mapped(None, None, rows)
    times = np.bincount(np.concatenate(seen, axis=None), minlength=count + 3)
    assert times[:count].sum() == times[count:].sum() == 160
    assert np.ptp(times[:count]) <= 1
    assert np.ptp(times[count:]) <= 1


@pytest.mark.parametrize("name", ["num_rounds", "initial_epochs", "clean_queries"])
def test_wrong_schedules(name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        blackbox.Schedule(**{**SCHEDULE.__dict__, name: 0})


def test_dynamic_distillation_asks_about_perturbed_images():
    without = {**SCHEDULE.__dict__, "perturbed_queries": 0}
    with pytest.raises(ValueError, match=r"`perturbed_queries`.*3 rounds.*dynamic=Fal"):
        blackbox.Schedule(**without)
    assert blackbox.Schedule(**without | {"dynamic": False}).asked == [20]
    assert blackbox.Schedule(**without | {"num_rounds": 1}).asked == [20]


def test_oracle_that_was_asked_before_is_not_taken_for_this_trainings(data):
    model = Model()
    ask = oracle(model)
    ask(data[0][:3])
    with pytest.raises(ValueError, match=r"got one with 3 quer.*`oracle.rewind\(0\)`"):
        fit(ask, data)
    assert len(model.asked) == ask.queries == 3


def test_wrong_data(data):
    images, labels = data
    with pytest.raises(TypeError, match="must be uint8 or float32, got float64"):
        fit(oracle(Model()), (images.astype(float), labels))
    with pytest.raises(ValueError, match="within bounds"):
        fit(oracle(Model()), (images * 16, labels))
    with pytest.raises(ValueError, match=r"shape \(40,\)"):
        fit(oracle(Model()), (images, labels[:39]))
    three = Oracle(Model(), answers="labels", num_classes=3)
    with pytest.raises(ValueError, match=r"the 3 classes of the oracle.*\[1, 10\]"):
        fit(three, (images, None))
