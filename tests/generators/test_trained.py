"""A trained generator is an attack and a pytree, and needs no model."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax.checks import to_float
from advgan_jax.evaluation import evaluate

LABELS = np.array([0, 3, 4])


def linear(images):
    return images.reshape(len(images), -1)[:, :5]


def test_it_adds_what_its_module_generates(make_generator, images):
    generator, unit = make_generator(), jnp.asarray(images)
    added = generator.module.apply({"params": generator.params}, unit)
    found = generator.perturb(images)
    # The sum is clipped and rounded to float32.
    np.testing.assert_allclose(found, jnp.clip(unit + added, 0, 1), atol=1e-7)
    np.testing.assert_array_equal(generator(None, images, LABELS), found)
    small = generator.perturb(images, epsilon=0.01)
    assert np.abs(small - images).max() <= 0.01


def test_a_conditional_one_aims_each_image_at_its_class(make_generator, images):
    generator = make_generator(conditional=True)
    found = generator.perturb(images, LABELS)
    for row, label in enumerate(LABELS):
        alone = generator.perturb(images[row : row + 1], np.array([label]))
        # Batches of other sizes are summed in another order.
        np.testing.assert_allclose(found[row], alone[0], atol=1e-6)
    other = generator(None, images, np.array([1, 3, 4]), targeted=True)
    changed = np.abs(other - found).max(axis=(1, 2, 3))
    assert changed[0] > 1e-3
    assert changed[1:].max() == 0


def test_other_bounds_give_the_same_images_in_other_units(make_generator, images):
    found = make_generator().perturb(images)
    wide = make_generator(bounds=(-1.0, 1.0), epsilon=0.6)
    # A few units in the last place of numbers up to 255.
    close = {"atol": 4e-7}
    np.testing.assert_allclose((wide.perturb(2 * images - 1) + 1) / 2, found, **close)
    bytes_ = wide(None, 255 * images, bounds=(0, 255))
    np.testing.assert_allclose(bytes_ / 255, found, **close)
    unit = wide.perturb(images, bounds=(0, 1))
    np.testing.assert_allclose(unit, found, **close)
    half = wide(None, 255 * images, bounds=(0, 255), epsilon=2.0)
    assert np.abs(half - 255 * images).max() <= 2


def test_works_in_evaluate_jit_and_vmap(make_generator, images):
    generators = [make_generator(seed=seed) for seed in range(2)]
    found = [generator.perturb(images) for generator in generators]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *generators)
    mapped = jax.jit(jax.vmap(lambda g: g.perturb(images)))(both)
    # Batches of other sizes are summed in another order.
    np.testing.assert_allclose(mapped, jnp.stack(found), atol=1e-6)
    evaluation = evaluate(linear, generators[0], images, LABELS, keep=3)
    np.testing.assert_allclose(evaluation.examples, found[0], atol=1e-6)


def test_other_weights_of_one_module_compile_nothing(make_generator, images):
    traced = []

    @jax.jit
    def run(generator):
        traced.append(1)
        return generator.perturb(images)

    for seed in range(3):
        run(make_generator(seed=seed))
    assert len(traced) == 1


def test_it_can_be_pickled(make_generator, images):
    generator = make_generator()
    again = pickle.loads(pickle.dumps(generator))
    np.testing.assert_array_equal(again.perturb(images), generator.perturb(images))
    assert again.trained_on == generator.trained_on
    assert "Conv_0" not in repr(again)  # not all of its weights


@pytest.mark.parametrize(
    ("changes", "call", "message"),
    [
        ({}, {"targeted": True}, "was trained untargeted, got targeted=True"),
        ({"target_class": 3}, {}, "was trained targeted, got targeted=False"),
        ({"conditional": True}, {}, "was trained targeted"),
        ({"target_class": 3}, {"targeted": True}, "to reach class 3, got label 0"),
        (
            {"conditional": True},
            {"targeted": True, "labels": None},
            r"needs `labels`, the wanted classes of shape \(3,\)",
        ),
        ({}, {"labels": np.array([0, 1, 5])}, r"must be in \[0, 5\), got 5"),
        ({}, {"bounds": (0, 0.5)}, "must lie within bounds"),
        ({}, {"epsilon": -1.0}, "`epsilon` must be a finite number >= 0"),
        ({}, {"bounds": ()}, "`bounds` must be two finite numbers.*got ()"),
        ({}, {"images": np.zeros((3, 6, 9, 1), np.float32)}, "the 2 channels"),
        ({}, {"images": np.zeros((3, 6), np.float32)}, r"shape \[B, H, W, C\]"),
    ],
)
def test_rejects_what_it_was_not_trained_for(
    make_generator, images, changes, call, message
):
    call = {"images": images, "labels": LABELS, **call}
    with pytest.raises(ValueError, match=message):
        make_generator(**changes)(linear, **call)


def test_numbers_may_be_arrays_without_implicit_copies(make_generator, images):
    generator, images = make_generator(), np.asarray(images)
    expected = generator(None, images, LABELS, epsilon=0.1)
    bounds = np.array([0.0, 1.0])
    for values in (np.float32(0.1), bounds), (jnp.float32(0.1), jnp.asarray(bounds)):
        epsilon, bounds = values
        with jax.transfer_guard("disallow"):
            found = generator(None, images, LABELS, epsilon=epsilon, bounds=bounds)
        np.testing.assert_array_equal(found, expected)
    for epsilon in (np.full(3, 0.1), "a"):
        with pytest.raises(TypeError, match="`epsilon` must be a real number >= 0"):
            generator(None, images, LABELS, epsilon=epsilon)


def test_perturb_rejects_classes_that_it_would_ignore(make_generator, images):
    with pytest.raises(ValueError, match="only a conditional generator"):
        make_generator().perturb(images, LABELS)
    with pytest.raises(TypeError, match="must be uint8 or floating, got int32"):
        make_generator().perturb(np.zeros((1, 6, 9, 2), np.int32))


def test_pixels_of_all_dtypes_are_the_same_images(make_generator):
    pixels = np.arange(108, dtype=np.uint8).reshape(1, 6, 9, 2)
    floats = to_float(pixels)
    expected = make_generator().perturb(floats)
    for same in (pixels, floats.astype(float)):
        np.testing.assert_array_equal(make_generator().perturb(same), expected)
