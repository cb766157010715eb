"""The same step on one device and on several, and what the modes refuse."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import models, parallel
from advgan_jax.training import classifier, loop

# Runs in a process of its own: the number of devices is fixed when JAX starts.
SHARDED = """
    import jax, numpy as np, optax
    from advgan_jax import attacks, data, models, parallel
    from advgan_jax.training import advgan, aigan, classifier, loop

    assert jax.local_device_count() == 4
    digits = data.load_dataset("digits")
    images = loop.on_device(digits.train)
    rows = np.arange(20 * 32).reshape(20, 1, 32)
    model = models.FullyConnected(10, hidden=(16,))
    sgd = optax.sgd(0.05)  # Adam would hide gradients that are off by a factor
    variables = model.init(jax.random.key(3), digits.train.images[:1])
    target = models.make_logits_fn(model, variables)
    nets = advgan.Networks(
        models.Generator(epsilon=0.3, widths=(4, 8, 8), num_residual=1),
        models.Discriminator(widths=(4, 8, 8)), sgd, sgd,
    )

    # Of two classes the drawn one is the other, whatever key a device has.
    two = images._replace(labels=images.labels % 2)
    widths = (4, 8, 8)
    conditional = advgan.Networks(
        models.ConditionalGenerator(0.3, 2, widths, num_residual=1),
        models.TwoHeadDiscriminator(2, widths=widths), sgd, sgd,
    )
    objective = aigan.Objective(0.3, 2, class_weight=0.1)
    attacker = attacks.make_attack("pgd", num_steps=2, random_start=False)

    def aigan_state():
        return aigan.init_state(conditional, jax.random.key(0), (8, 8, 1))

    def classifier_state():
        return classifier.init_state(model, sgd, jax.random.key(0), (8, 8, 1))

    def advgan_state():
        return advgan.init_state(nets, jax.random.key(0), (8, 8, 1))

    def trained(state, data, step, mode, *frozen):
        run = parallel.compile_steps(step, mode=mode)
        for batch in rows:
            state, metrics = run(state, data, batch, *frozen)
        return jax.device_get((state.replace(key=None), metrics))

    train_advgan = advgan.make_train_step(nets, advgan.Objective(0.3))
    stage_one = aigan.make_first_step(conditional, objective, attacker)
    stage_two = aigan.make_second_step(conditional, objective)
    cases = (
        (classifier_state, images, classifier.make_train_step(model, sgd)),
        (advgan_state, images, train_advgan, target),
        (aigan_state, two, stage_one, target),
        (aigan_state, two, stage_two, target),
    )
    for make_state, data, step, *frozen in cases:
        one = trained(make_state(), data, step, "jit", *frozen)
        four = trained(make_state(), data, step, "auto", *frozen)
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True)
        print(max(float(np.max(np.abs(a - b))) for a, b in pairs))
"""


@pytest.mark.multi_device
def test_four_devices_do_what_one_does():
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SHARDED)],
        env={
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "JAX_PLATFORMS": "cpu",
            "PATH": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    differences = [float(line) for line in result.stdout.split()]
    assert len(differences) == 4
    # Means over 32 images are taken in another order: float32 rounding, 20 steps long.
    assert max(differences) < 1e-5


def test_unknown_mode():
    with pytest.raises(ValueError, match=r"Unknown parallel mode 'pmapp'.*'pmap'"):
        parallel.choose_mode("pmapp")


def test_pmap_on_one_device_equals_jit(digits):
    model = models.FullyConnected(10, hidden=(8,))
    step = classifier.make_train_step(model, optax.sgd(0.1))
    rows = np.arange(64).reshape(2, 32)
    results = []
    for mode in ("jit", "pmap"):
        state = classifier.init_state(
            model, optax.sgd(0.1), jax.random.key(0), (8, 8, 1)
        )
        run = parallel.compile_steps(step, mode=mode)
        state, metrics = run(state, loop.on_device(digits.train), rows)
        assert metrics["loss"].shape == (2,)
        results.append(state.net.params)
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_pmap_refuses_a_batch_that_does_not_divide(monkeypatch, digits):
    monkeypatch.setattr(jax, "local_device_count", lambda: 3)
    run = parallel.compile_steps(lambda state, batch, *, axis_name: None, mode="pmap")
    with pytest.raises(ValueError, match="multiple of the 3 devices, got 32"):
        run(jnp.zeros(()), loop.on_device(digits.train), np.arange(32)[None])
