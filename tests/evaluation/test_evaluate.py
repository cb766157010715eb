"""Evaluation recomputes everything from images; here the images are worked by hand.

The model's class is the brightest of three channels of a single pixel, so an image is
its own logits.
"""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks
from advgan_jax.evaluation import (
    craft,
    evaluate,
    evaluate_adversarial,
    evaluate_clean,
    evaluate_many,
)

LABELS = np.array([0, 1, 2, 0, 1])
CLEAN = np.array([0, 1, 2, 1, 2])
# Darker than 1, that rows do not sum to one as probabilities do.
IMAGES = (0.5 * np.eye(3, dtype=np.float32))[CLEAN].reshape(5, 1, 1, 3)


def logits_fn(images):
    return images[:, 0, 0, :]


def move_class_0(logits_fn, images, labels, *, key=None, targeted=False, bounds=(0, 1)):
    """Turns class 0 into class 1; claims whatever it likes."""
    rolled = jnp.roll(images, 1, axis=-1)
    return jnp.where(images[..., :1] > 0, rolled, images)


def to_labels(logits_fn, images, labels, *, key=None, targeted=False, bounds=(0, 1)):
    return 0.5 * jax.nn.one_hot(labels, 3).reshape(images.shape)


def brighten(
    logits_fn, images, labels, *, epsilon=0.1, key=None, targeted=False, bounds=(0, 1)
):
    return jnp.clip(images.at[..., 0].add(epsilon), *bounds)


def unchanged(logits_fn, images, labels, **_):
    return images


@pytest.mark.parametrize("batch_size", [2, 500])
def test_clean_images_are_their_own_adversarial_images(batch_size):
    clean = evaluate_clean(logits_fn, IMAGES, LABELS, batch_size=batch_size)
    attacked = evaluate(logits_fn, unchanged, IMAGES, LABELS)
    for field in dataclasses.fields(clean):
        if field.name not in ("seconds", "examples"):
            expected = getattr(attacked, field.name)
            np.testing.assert_array_equal(getattr(clean, field.name), expected)
    assert clean.clean_accuracy == clean.robust_accuracy == 0.6
    assert clean.seconds is clean.examples is None
    with pytest.raises(ValueError, match=r"bounds \(0.0, 1.0\), got .* to 1.5"):
        evaluate_clean(logits_fn, 3 * IMAGES, LABELS)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 500])
def test_everything_is_recomputed_whatever_the_batch_size(batch_size):
    result = evaluate(logits_fn, move_class_0, IMAGES, LABELS, batch_size=batch_size)
    np.testing.assert_array_equal(result.clean_predictions, CLEAN)
    np.testing.assert_array_equal(result.adversarial_predictions, [1, 1, 2, 1, 2])
    np.testing.assert_array_equal(result.linf, [0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(result.l2, [0.5**0.5, 0, 0, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(result.rms, [6**-0.5, 0, 0, 0, 0], rtol=1e-15)
    assert result.success()[:2] == (1, 3)
    assert result.success("all")[:2] == (3, 5)
    assert 0 < result.seconds < 1


def test_a_lie_about_success_is_not_believed():
    def liar(logits_fn, images, labels, **_):
        return images

    liar.success = np.ones(5, bool)
    assert evaluate(logits_fn, liar, IMAGES, LABELS).success().successes == 0


def test_targeted_attacks_are_given_the_wanted_classes():
    targets = np.array([1, 1, 0, 0, 2])

    def attack(logits_fn, images, labels, *, targeted, **rest):
        assert targeted is True
        return to_labels(logits_fn, images, labels)

    result = evaluate(
        logits_fn, attack, IMAGES, LABELS, target_labels=targets, batch_size=2
    )
    np.testing.assert_array_equal(result.adversarial_predictions, targets)
    assert result.success()[:2] == (2, 2)


def test_uint8_pixels_become_floats():
    images = np.full((2, 1, 1, 3), 51, np.uint8)
    result = evaluate(logits_fn, brighten, images, np.array([1, 2]))
    np.testing.assert_allclose(result.linf, 0.1, rtol=1e-6)
    assert craft(logits_fn, unchanged, images, np.array([1, 2])).dtype == np.float32


def test_each_batch_has_its_own_key():
    def noise(logits_fn, images, labels, *, key, **_):
        return jnp.clip(images + 0.1 * jax.random.uniform(key), 0, 1)

    run = functools.partial(craft, logits_fn, noise, IMAGES, LABELS, batch_size=2)
    made = run(key=jax.random.key(3))
    added = (made - IMAGES)[[0, 2, 4], 0, 0, 1]  # one image of each batch
    assert len(set(added.tolist())) == 3
    np.testing.assert_array_equal(run(key=jax.random.key(3)), made)
    with pytest.raises(TypeError, match="typed key"):
        run(key=jax.random.PRNGKey(3))


def test_compilation_is_not_timed():
    def slow_to_trace(logits_fn, images, labels, **_):
        time.sleep(0.5)
        return images

    result = evaluate(logits_fn, slow_to_trace, IMAGES, LABELS, batch_size=1)
    assert result.seconds < 0.25


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_first_images_are_kept(batch_size):
    whole = craft(logits_fn, move_class_0, IMAGES, LABELS)
    result = evaluate(
        logits_fn, move_class_0, IMAGES, LABELS, batch_size=batch_size, keep=3
    )
    np.testing.assert_array_equal(result.examples, whole[:3])
    assert evaluate(logits_fn, move_class_0, IMAGES, LABELS).examples.shape[0] == 0


def test_weights_stay_arguments():
    """A pytree attack and a pytree model are not baked into the program."""
    seen = []

    def scaled(weights, images):
        seen.append(isinstance(weights, jax.core.Tracer))
        return images[:, 0, 0, :] * weights

    def shifted(shift, logits_fn, images, labels, **_):
        seen.append(isinstance(shift, jax.core.Tracer))
        logits_fn(images)
        return images + shift

    model, attack = Partial(scaled, jnp.full(3, 3.0)), Partial(shifted, jnp.ones(3) / 4)
    result = evaluate(model, attack, IMAGES, LABELS)
    np.testing.assert_array_equal(result.linf, 0.25)
    assert seen
    assert all(seen)


def test_callable_objects_need_no_hash():
    @dataclasses.dataclass
    class Both:
        scale: float

        def __call__(self, images, *rest, **_):
            return rest[0] if rest else images[:, 0, 0, :] * self.scale

    assert evaluate(Both(3.0), Both(1.0), IMAGES, LABELS).clean_accuracy == 0.6


def test_many_attacks_and_sizes():
    traced = []

    def attack(logits_fn, images, labels, *, epsilon, **rest):
        traced.append(1)
        return brighten(logits_fn, images, labels, epsilon=epsilon)

    named = {"a": attack, "b": unchanged, "c": functools.partial(brighten, epsilon=1)}
    results = evaluate_many(
        logits_fn, named, IMAGES, LABELS, epsilons=[0.2, 0.6], batch_size=2
    )
    assert list(results) == [
        ("a", 0.2), ("a", 0.6), ("b", None), ("c", 0.2), ("c", 0.6),
    ]  # fmt: skip
    assert len(traced) == 1
    np.testing.assert_allclose(results["a", 0.2].linf, 0.2, rtol=1e-6)
    np.testing.assert_array_equal(
        results["a", 0.6].adversarial_predictions, np.zeros(5)
    )
    assert results["c", 0.6].success() == results["a", 0.6].success()
    as_bound = evaluate_many(logits_fn, {"c": named["c"]}, IMAGES, LABELS)
    np.testing.assert_allclose(as_bound["c", None].linf, [0.5, 1, 1, 1, 1])


def test_many_names_the_attack_in_errors():
    bad = {"good": unchanged, "bad": lambda f, images, labels, **_: images + 1}
    with pytest.raises(ValueError, match="bounds") as caught:
        evaluate_many(logits_fn, bad, IMAGES, LABELS)
    assert caught.value.__notes__ == ["In attack bad."]
    with pytest.raises(ValueError, match=r"`epsilon` must be .*got -0.1"):
        evaluate_many(logits_fn, bad, IMAGES, LABELS, epsilons=[-0.1])


def test_images_made_elsewhere():
    adversarial = np.roll(IMAGES, 1, axis=-1)
    result = evaluate_adversarial(logits_fn, IMAGES, adversarial, LABELS, batch_size=2)
    np.testing.assert_array_equal(result.adversarial_predictions, (CLEAN + 1) % 3)
    assert result.seconds is None
    with pytest.raises(ValueError, match=r"shape \[5, 1, 1, 3\].*got \[4, 1, 1, 3\]"):
        evaluate_adversarial(logits_fn, IMAGES, adversarial[:4], LABELS)
    adversarial[3, 0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="image 3 has values from nan"):
        evaluate_adversarial(logits_fn, IMAGES, adversarial, LABELS, batch_size=2)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda f, x, y, **_: x - 0.1, r"bounds \(0.0, 1.0\), image 0 has .*-0.1 to"),
        (lambda f, x, y, **_: x.at[1].divide(0.0), "image 1 has values from nan"),
        (lambda f, x, y, **_: x[:, 0], r"float32\[2, 1, 1, 3\] .*got float32\[2, 1, 3"),
        (lambda f, x, y, **_: x.astype(jnp.bfloat16), r"got bfloat16\[2, 1, 1, 3\]"),
        (lambda f, x, y, **_: (x, x), "got <class 'tuple'>; an attack returns images"),
    ],
)
def test_attacks_that_return_something_else(attack, message):
    with pytest.raises(ValueError, match=message):
        evaluate(logits_fn, attack, IMAGES, LABELS, batch_size=2)


def test_models_that_return_something_else():
    def nan_on_class_2(images):
        return jnp.where(images[:, 0, 0, 2:] > 0, jnp.nan, logits_fn(images))

    with pytest.raises(ValueError, match=r"got \[nan nan nan\] for clean image 2"):
        evaluate(nan_on_class_2, unchanged, IMAGES, LABELS, batch_size=2)
    with pytest.raises(ValueError, match="for adversarial image 1"):
        evaluate(nan_on_class_2, to_labels, IMAGES[:2], np.array([0, 2]))
    with pytest.raises(ValueError, match=r"logits of shape \(5, K\)"):
        evaluate(lambda x: x.ravel(), unchanged, IMAGES, LABELS)
    with pytest.warns(UserWarning, match="look like probabilities"):
        evaluate(lambda x: jax.nn.softmax(logits_fn(x)), unchanged, IMAGES, LABELS)


def test_bad_inputs():
    run = functools.partial(evaluate, logits_fn, unchanged)
    with pytest.raises(TypeError, match="uint8 or float32, got float64"):
        run(IMAGES.astype(float), LABELS)
    with pytest.raises(ValueError, match=r"bounds \(0.0, 1.0\), got .* to 1.5"):
        run(3 * IMAGES, LABELS, batch_size=2)
    with pytest.raises(ValueError, match="got values from nan"):
        run(np.full_like(IMAGES, np.nan), LABELS)
    with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \(1, 1, 3\)"):
        run(IMAGES[:, 0], LABELS)
    with pytest.raises(ValueError, match="at least one, got shape"):
        run(IMAGES[:0], LABELS[:0])
    with pytest.raises(TypeError, match="one-hot labels are not accepted"):
        run(IMAGES, np.eye(3)[LABELS])
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 3\), got 3 at"):
        run(IMAGES, LABELS + 1)
    with pytest.raises(ValueError, match=r"`target_labels` must be in .*got -1 at"):
        run(IMAGES, LABELS, target_labels=LABELS - 1)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        run(IMAGES, LABELS, batch_size=0)
    with pytest.raises(TypeError, match=r"`attack` must be a function .*got str"):
        evaluate(logits_fn, "pgd", IMAGES, LABELS)


def test_a_bar_is_shown_only_when_asked_for(capsys):
    evaluate(logits_fn, unchanged, IMAGES, LABELS, progress=True)
    assert capsys.readouterr() == ("", "")  # no terminal here


def test_real_digits(digits, digits_logits_fn):
    """Registered attacks against a trained net."""
    images, labels = digits.test.images[:120], digits.test.labels[:120]
    pgd = attacks.make_attack("pgd", epsilon=0.1, num_steps=3)
    results = evaluate_many(
        digits_logits_fn,
        {"fgsm": attacks.make_attack("fgsm", epsilon=0.1), "pgd": pgd},
        images,
        labels,
        epsilons=[0, 0.2],
        batch_size=50,
        key=jax.random.key(0),
    )
    still = results["pgd", 0.0]
    assert still.success().rate == 0
    assert still.robust_accuracy == still.clean_accuracy > 0.9
    assert results["fgsm", 0.2].success().rate > 0.3
    assert results["pgd", 0.2].success().rate > 0.3
    # x + epsilon is rounded to float32 once, at most half a unit in the last place.
    assert results["pgd", 0.2].linf.max() <= np.float32(0.2) + 2**-24
