"""Generators: a description and weights are enough to build the attack."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import advgan_jax
from advgan_jax import generators, models
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import to_float
from advgan_jax.training import advgan, aigan

ADVGAN = models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=1)
AIGAN = models.ConditionalGenerator(
    epsilon=0.3, num_classes=10, widths=(4, 4, 4), num_residual=1
)


def logits_fn(images):
    return jnp.zeros((len(images), 10)) + jnp.sum(images)


def description(module, **changes):
    kind = "advgan" if module is ADVGAN else "aigan"
    values = {
        "kind": kind,
        "generator": generators.describe_module(module),
        "epsilon": 0.3,
        "target_class": None,
        "num_classes": 10,
        "image_shape": [8, 8, 1],
    }
    return json.loads(json.dumps(values | changes))


def fresh_state(module):
    """A state with more than the generator, as runs save it."""
    make = advgan if module is ADVGAN else aigan
    adam = optax.adam(1e-3)
    networks = advgan.Networks(module, models.Discriminator((4,)), adam, adam)
    return make.init_state(networks, jax.random.key(0), (8, 8, 1))


@pytest.mark.parametrize("module", [ADVGAN, AIGAN])
def test_loaded_generator_is_the_saved_one(module, digits, tmp_path):
    state = fresh_state(module)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, state, description(module))
    attack = advgan_jax.load_generator(tmp_path)
    images, labels = to_float(digits.test.images[:6]), digits.test.labels[:6]
    options = {"targeted": True} if module is AIGAN else {}
    found = attack(logits_fn, images, labels, **options)
    inputs = (images, labels) if module is AIGAN else (images,)
    added = module.apply({"params": state.generator.params}, *inputs)
    # The sum is clipped and rounded to float32.
    np.testing.assert_allclose(found, jnp.clip(images + added, 0, 1), atol=1e-6)
    other = attack(logits_fn, 255 * images, labels, bounds=(0, 255), **options)
    np.testing.assert_allclose(other / 255, found, atol=1e-6)
    assert generators.describe_generator(tmp_path) == description(module)


def test_a_generator_of_one_class_remembers_it(tmp_path, digits):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, fresh_state(ADVGAN), description(ADVGAN, target_class=3))
    attack = advgan_jax.load_generator(tmp_path)
    with pytest.raises(ValueError, match="to reach class 3, got label 5"):
        attack(logits_fn, digits.test.images[:1], np.array([5]), targeted=True)


def test_other_folders_are_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the workdir"):
        advgan_jax.load_generator(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, {"step": jnp.zeros(())}, {"kind": "target_model"})
    with pytest.raises(ValueError, match="holds a target_model, no generator"):
        advgan_jax.load_generator(tmp_path)
