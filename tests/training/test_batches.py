"""Test streams: they train like data on the devices, and end cleanly."""

import itertools
import threading
import time

import jax
import numpy as np
import optax
import pytest

from advgan_jax import models, parallel
from advgan_jax.data import Split
from advgan_jax.training import batches, classifier, fit

PLAN = fit.Plan(num_examples=100, batch_size=16, num_epochs=2, steps_per_call=3)


class Watched(Split):
    """A split that records which rows are read."""

    def __init__(self, split, fail_at=None):
        super().__init__(split.images, split.labels)
        self.__dict__.update(read=[], fail_at=fail_at)

    def rows(self, indices):
        if len(self.read) == self.fail_at:
            raise OSError("the disk is gone")
        self.read.append(indices)
        return super().rows(indices)


@pytest.fixture
def split(digits):
    train = digits.train.take(100)
    return Split((train.images * 255).astype(np.uint8), train.labels)


@pytest.fixture
def trained():
    """Train a small convolutional model; return weights and losses."""
    model, sgd = models.make_classifier("small", 10), optax.sgd(0.05)
    step = classifier.make_train_step(model, sgd)

    def train(data, mode="jit", calls=None, state=None):
        if state is None:
            state = classifier.init_state(model, sgd, jax.random.key(0), (8, 8, 1))
        run, made, losses = parallel.compile_steps(step, mode=mode), [], []

        def counted(*arguments):
            made.append(1)
            return run(*arguments)

        hooks = fit.Hooks(
            log=lambda step, metrics: losses.append(metrics["loss"]),
            steps_per_log=1,
            stop=lambda: len(made) == calls,
        )
        key = jax.random.key(1)
        state, _ = fit.fit(state, counted, data, PLAN, order_key=key, hooks=hooks)
        return state, losses

    return train


def assert_same(one, other):
    for a, b in zip(
        jax.tree.leaves(one.model), jax.tree.leaves(other.model), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def reading():
    return [t for t in threading.enumerate() if t.name == "prefetch"]


@pytest.mark.parametrize("mode", ["jit", "pmap", "shard_map"])
@pytest.mark.slow
@pytest.mark.optimised
def test_same_bits_as_from_the_devices(split, trained, mode):
    watched = Watched(split)
    state, losses = trained(batches.Stream(watched, mode), mode)
    wanted, wanted_losses = trained(fit.on_device(split), mode)
    assert_same(state, wanted)
    assert losses == wanted_losses
    # 6 steps an epoch, 3 of them in a call.
    assert [len(rows) for rows in watched.read] == [48] * 4
    assert not reading()


def test_goes_on_in_the_middle_of_an_epoch(split, trained):
    whole, _ = trained(fit.on_device(split))
    part, _ = trained(batches.Stream(split), calls=3)
    assert part.step == 9  # three calls of 3 steps, and 6 are an epoch
    assert_same(trained(batches.Stream(split), state=part)[0], whole)


def test_what_the_reader_raises_is_raised_by_the_loop(split, trained):
    with pytest.raises(OSError, match="the disk is gone"):
        trained(batches.Stream(Watched(split, fail_at=3)))
    assert not reading()


def test_a_batch_that_the_devices_do_not_divide_is_refused(split, monkeypatch):
    monkeypatch.setattr(parallel.rows, "num_shards", lambda mode: 3)
    calls = batches.iterate_calls(
        batches.Stream(split, "pmap"), PLAN, jax.random.key(1), 0
    )
    with pytest.raises(ValueError, match="multiple of the 3 devices, got 16"):
        next(calls)
    assert not reading()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_loop_ends_the_reader(split, error):
    def run(state, data, rows):
        assert reading()
        raise error

    state = type("State", (), {"step": 0})()
    with pytest.raises(error):
        fit.fit(state, run, batches.Stream(split), PLAN, order_key=jax.random.key(1))
    assert not reading()


def test_reads_no_more_ahead_than_it_is_told():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with_two_ready = batches.prefetch(items(), 2)
    assert next(with_two_ready) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # longer than one wait of the reader
    # One was taken, two are ready, and the next one waits for space.
    assert made == [0, 1, 2, 3]
    assert list(with_two_ready) == list(range(1, 100))
    assert not reading()


class Waited:
    """Metrics of a call that record whether someone waited for them."""

    def __init__(self, number, waited):
        self.number, self.waited = number, waited

    def block_until_ready(self):
        self.waited.append(self.number)
        return self


def test_no_more_calls_are_under_way_than_were_allowed():
    waited, numbers = [], itertools.count()
    run = batches.limit_in_flight(
        lambda state: (state, Waited(next(numbers), waited)), ahead=2
    )
    for _ in range(5):
        run("state")
    # The fifth was dispatched while the third and the fourth may have run.
    assert waited == [0, 1, 2]


def test_a_reader_that_hangs_does_not_hang_the_training(monkeypatch):
    monkeypatch.setattr(batches, "_PATIENCE", 0.1)
    forever = threading.Event()

    def items():
        yield 1
        forever.wait()

    found = batches.prefetch(items(), depth=1)
    assert next(found) == 1
    found.close()
    forever.set()


def test_a_depth_of_nothing_is_refused(split):
    with pytest.raises(ValueError, match=r"`depth` must be .* >= 1, got 0"):
        batches.Stream(split, depth=0)
