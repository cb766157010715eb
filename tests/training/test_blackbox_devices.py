"""Test that the alternation resumes on several devices as on one."""

import pytest

RESUMED = """
    import pathlib, sys
    import jax, numpy as np, optax
    from advgan_jax import data, models
    from advgan_jax.checkpointing import Checkpoints
    from advgan_jax.oracles import Ledger, Oracle
    from advgan_jax.training import advgan, blackbox
    from advgan_jax.training.fit import Hooks

    assert jax.local_device_count() == 2
    folder = pathlib.Path(sys.argv[1])
    train = data.load_dataset("digits").train.take(24)
    attacker = blackbox.Attacker(
        advgan.Networks(
            models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=0),
            models.Discriminator(widths=(4,)), optax.sgd(0.01), optax.sgd(0.01),
        ),
        advgan.AdvGANObjective(epsilon=0.3, confidence=10.0),
        models.FullyConnected(num_classes=10),
        optax.sgd(0.1),
    )
    schedule = blackbox.Schedule(2, 2, 2, 1, 12, 4, 8, 8)
    weights = np.random.default_rng(0).normal(size=(64, 10))

    def fit(state, save):
        oracle = Oracle(
            lambda images: (images.reshape(-1, 64) @ weights).argmax(axis=1),
            answers="labels", num_classes=10, ledger=Ledger(folder / "queries"),
        )
        state, finished = blackbox.fit(
            state, oracle, train.images, train.labels, attacker, schedule, mode="auto",
            hooks=Hooks(save=save),
        )
        assert finished
        networks = state.advgan.replace(key=None), state.distilled.replace(key=None)
        return jax.tree.leaves(jax.device_get(networks))

    fresh = blackbox.init_state(attacker, schedule, jax.random.key(0), (8, 8, 1))
    with Checkpoints(folder / "checkpoints", max_to_keep=9) as checkpoints:
        one = fit(fresh, lambda step, state: checkpoints.save(step, state, {}))
    like = jax.eval_shape(
        lambda: blackbox.init_state(attacker, schedule, jax.random.key(0), (8, 8, 1))
    )
    with Checkpoints(folder / "checkpoints", max_to_keep=9) as checkpoints:
        checkpoints.set_aside_after(2)
        state = checkpoints.restore(like)
    assert (state.advgan.step, state.distilled.step) == (0, 2)
    for a, b in zip(one, fit(state, lambda step, state: None), strict=True):
        np.testing.assert_array_equal(a, b)
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_resumes_on_several_devices(on_devices, tmp_path):
    on_devices(2, RESUMED, tmp_path)
