"""Test the host loop: it resumes exactly, stops cleanly, and detects divergence."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models, parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import shuffled
from advgan_jax.training import advgan, classifier, fit


def network_pair():
    return advgan.Networks(
        models.Generator(epsilon=0.3, widths=(4, 8, 8), num_residual=1),
        models.Discriminator(widths=(4, 8, 8)),
        optax.adam(1e-3),
        optax.adam(1e-3),
    )


def train(digits, logits_fn, state, num_steps, save=lambda step, state: None):
    """Make some steps of AdvGAN, 3 in an epoch, until a signal comes."""
    step = advgan.make_train_step(network_pair(), advgan.AdvGANObjective(0.3))
    compiled = parallel.compile_steps(step, mode="jit")
    made = []

    def run(*arguments):
        made.append(1)
        return compiled(*arguments)

    state, _ = fit.fit(
        state,
        run,
        fit.on_device(digits.train.take(100)),
        fit.Plan(num_examples=100, batch_size=32, num_epochs=4),
        order_key=jax.random.key(7),
        frozen=(logits_fn,),
        hooks=fit.Hooks(save=save, stop=lambda: len(made) == num_steps),
    )
    return state


def fresh():
    return advgan.init_state(network_pair(), jax.random.key(0), (8, 8, 1))


def bits(state):
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ).tobytes()
        for leaf in jax.tree.leaves(state)
    ]


@pytest.mark.slow
def test_resumes_bit_for_bit_in_the_middle_of_an_epoch(
    digits, digits_logits_fn, tmp_path
):
    whole = train(digits, digits_logits_fn, fresh(), 4)
    assert whole.step == 4  # 3 steps an epoch: one step into the second
    with Checkpoints(tmp_path) as checkpoints:

        def save(step, state):
            checkpoints.save(step, state, {})

        train(digits, digits_logits_fn, fresh(), 2, save=save)
        assert checkpoints.steps() == [2]
        restored = checkpoints.restore(jax.eval_shape(fresh))
    resumed = train(digits, digits_logits_fn, restored, 2)
    assert bits(resumed) == bits(whole)
    assert bits(resumed) != bits(fresh())


def test_scanned_steps_equal_single_steps(digits):
    model = models.FullyConnected(10, hidden=(16,))
    step = classifier.make_train_step(model, optax.sgd(0.1))
    run = parallel.compile_steps(step, mode="jit")
    data, rows = fit.on_device(digits.train), np.arange(96).reshape(3, 32)
    states = [
        classifier.init_state(model, optax.sgd(0.1), jax.random.key(0), (8, 8, 1))
        for _ in range(2)
    ]
    scanned, metrics = run(states[0], data, rows)
    single = states[1]
    for row in rows:
        single, last = run(single, data, row[None])
    assert metrics["loss"].shape == (3,)
    np.testing.assert_allclose(metrics["loss"][-1], last["loss"][0], rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves(scanned.model), jax.tree.leaves(single.model), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


class Counted:
    """A fake train state with compiled steps that count."""

    def __init__(self, metric=lambda step: 0.0):
        self.step, self.metric, self.seen = 0, metric, []

    def run(self, state, data, rows):
        del data
        values = [self.metric(self.step + i + 1) for i in range(rows.count)]
        self.step += rows.count
        self.seen.append(rows.order[rows.first : rows.first + rows.count])
        return state, {"loss": np.array(values)}


PLAN = fit.Plan(num_examples=10, batch_size=3, num_epochs=2, steps_per_call=2)


def count_steps(counted, **hooks):
    return fit.fit(
        counted,
        counted.run,
        None,
        PLAN,
        order_key=jax.random.key(0),
        hooks=fit.Hooks(**hooks),
    )


def test_every_epoch_visits_other_rows_once():
    counted = Counted()
    _, finished = count_steps(counted)
    assert finished
    assert counted.step == 6
    first, second = np.concatenate(counted.seen).reshape(2, 9)
    for epoch, seen in enumerate((first, second)):
        order = shuffled(jax.random.key(0), epoch, 10)
        np.testing.assert_array_equal(seen, order[:9])
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_divergence_names_step_and_metric_and_saves_nothing(bad):
    saved = []
    counted = Counted(lambda step: bad if step == 5 else 0.0)
    with pytest.raises(fit.DivergenceError, match=r"`loss` became \w+ at step 5"):
        count_steps(counted, save=lambda step, state: saved.append(step))
    assert saved == [3]


def test_weights_that_are_not_finite_are_not_saved(digits, digits_logits_fn):
    saved = []

    def run(state, data, rows, *frozen):
        params = jax.tree.map(lambda a: a * np.nan, state.discriminator.params)
        broken = state.discriminator.replace(params=params)
        state = state.replace(step=state.step + rows.count, discriminator=broken)
        return state, {"loss": np.zeros(rows.count)}

    with pytest.raises(fit.DivergenceError, match=r"discriminator.*after step 3"):
        fit.fit(
            fresh(),
            run,
            fit.on_device(digits.train.take(100)),
            fit.Plan(num_examples=100, batch_size=32, num_epochs=1),
            order_key=jax.random.key(7),
            hooks=fit.Hooks(save=lambda step, state: saved.append(step)),
        )
    assert saved == []


def test_logs_means_and_saves_at_the_pace_asked_for():
    logged, saved = {}, []
    count_steps(
        Counted(float),
        log=lambda step, metrics: logged.update({step: metrics}),
        save=lambda step, state: saved.append(step),
        steps_per_log=2,
        epochs_per_save=2,
    )
    # An epoch has 3 steps, with losses 1 to 6: its last window is shorter.
    assert logged == {
        2: {"loss": 1.5},
        3: {"loss": 3.0},
        5: {"loss": 4.5},
        6: {"loss": 6.0},
    }
    assert saved == [6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(number):
    saved, counted = [], Counted()
    before = signal.getsignal(number)
    with fit.interruptible() as stop:
        os.kill(os.getpid(), number)
        _, finished = count_steps(
            counted, stop=stop, save=lambda step, state: saved.append(step)
        )
        assert not finished
    assert saved == [0]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once():
    # A shell starts background processes with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _interrupt_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_twice():
    with pytest.raises(KeyboardInterrupt), fit.interruptible():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 11}, "`batch_size` must be from 1 to the 10"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"num_epochs": -1}, "`num_epochs`"),
        ({"steps_per_call": 0}, "`steps_per_call`"),
    ],
)
def test_impossible_plans(change, message):
    values = {"num_examples": 10, "batch_size": 3, "num_epochs": 2, **change}
    with pytest.raises(ValueError, match=message):
        fit.Plan(**values)
