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
from advgan_jax.checks import to_float
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
        if field.name not in ("seconds", "examples", "margin"):
            expected = getattr(attacked, field.name)
            np.testing.assert_array_equal(getattr(clean, field.name), expected)
    assert clean.clean_accuracy == clean.robust_accuracy == 0.6
    assert clean.seconds is clean.examples is clean.margin is None
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


def test_tables_are_evaluated_like_images():
    expected = evaluate(logits_fn, brighten, IMAGES, LABELS, keep=2)
    table = evaluate(lambda x: x, brighten, IMAGES.reshape(5, 3), LABELS, keep=2)
    for field in ("adversarial_predictions", "linf", "l2", "rms"):
        np.testing.assert_array_equal(getattr(table, field), getattr(expected, field))
    np.testing.assert_array_equal(table.examples, expected.examples[:, 0, 0])


def test_success_is_measured_before_and_after_rounding():
    # Class 1 wins by a fortieth of a level, which rounding undoes: of a tie the first.
    zeros = np.zeros(5, int)
    half = to_float(np.full((5, 1, 1, 3), 128, np.uint8))

    def barely(logits_fn, images, labels, *, epsilon=0.01, **_):
        return images.at[..., 1].add(epsilon / 100)

    run = functools.partial(evaluate, logits_fn, batch_size=2, keep=3, levels=256)
    result = run(barely, half, zeros)
    assert result.success().rate == 1
    assert result.rounded.success().rate == 0
    np.testing.assert_array_equal(result.rounded.examples, half[:3])
    assert evaluate(logits_fn, barely, half, zeros).rounded is None


def test_rounding_stays_within_the_epsilon_of_the_attack():
    """Half a level above epsilon is rounded down, not up."""
    images = to_float(np.full((5, 1, 1, 3), 51, np.uint8))
    epsilon = 8.6 / 255
    bound = functools.partial(brighten, epsilon=epsilon)
    result = evaluate(logits_fn, bound, images, LABELS, levels=256)
    free = evaluate(logits_fn, lambda *x, **_: bound(*x), images, LABELS, levels=256)
    many = evaluate_many(
        logits_fn, {"a": brighten}, images, LABELS, epsilons=[epsilon], levels=256
    )
    np.testing.assert_allclose(result.linf, epsilon, rtol=1e-6)
    for found in (result, many["a", epsilon]):
        np.testing.assert_allclose(found.rounded.linf, 8 / 255, rtol=1e-6)
    np.testing.assert_allclose(free.rounded.linf, 9 / 255, rtol=1e-6)


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
    scaled = evaluate(logits_fn, brighten, images, np.array([1, 2]), bounds=(0, 255))
    # 51.1 is rounded to float32, whose steps there are 2^-18.
    np.testing.assert_allclose(scaled.linf, 0.1, atol=2**-18)
    for pixels in (images / 255, jnp.asarray(images / 255), (images / 255).tolist()):
        again = evaluate(logits_fn, brighten, pixels, np.array([1, 2]))
        # 51/255 and 51 * (1/255) differ by a step of float32 at 0.3.
        np.testing.assert_allclose(again.linf, result.linf, atol=2**-24)
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


def test_many_notices_an_epsilon_that_bounds_nothing():
    named = {"a": brighten, "b": functools.partial(brighten, epsilon=1)}
    with pytest.warns(UserWarning, match="`epsilon` = 8 exceeds 1") as caught:
        evaluate_many(logits_fn, named, IMAGES, LABELS, epsilons=[0.1, 8])
    assert len(caught) == 2


def test_images_with_channels_first_are_noticed():
    images = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.warns(UserWarning, match=r"look like \[B, C, H, W\]"):
        evaluate_clean(lambda x: x[:, 0, 0, :2], images, LABELS[:1])


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
    # Images that were saved and read again.
    levels = np.round(adversarial * 255).astype(np.uint8)
    saved = evaluate_adversarial(logits_fn, IMAGES, levels, LABELS)
    np.testing.assert_allclose(saved.linf, result.linf, atol=1 / 500)
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


def test_masked_classes():
    def mask(value, x):
        return jnp.concatenate([logits_fn(x), jnp.full((len(x), 1), value)], axis=1)

    found = evaluate(Partial(mask, -np.inf), brighten, IMAGES, LABELS)
    expected = evaluate(logits_fn, brighten, IMAGES, LABELS)
    np.testing.assert_array_equal(
        found.adversarial_predictions, expected.adversarial_predictions
    )
    with pytest.raises(ValueError, match=r"masked on all images.*clean image 0"):
        evaluate(lambda x: jnp.log(logits_fn(x)), unchanged, IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"finite logits.*inf\] for clean image 0"):
        evaluate(Partial(mask, np.inf), unchanged, IMAGES, LABELS)


def test_bad_inputs():
    run = functools.partial(evaluate, logits_fn, unchanged)
    with pytest.raises(TypeError, match="uint8 or floating, got int64"):
        run(IMAGES.astype(int), LABELS)
    with pytest.raises(ValueError, match=r"bounds \(0.0, 1.0\), got .* to 1.5"):
        run(3 * IMAGES, LABELS, batch_size=2)
    with pytest.raises(ValueError, match=r"image 0\. Remove or repair NaN"):
        run(np.full_like(IMAGES, np.nan), LABELS)
    with pytest.raises(ValueError, match=r"a batch axis.*got shape \(1,\)"):
        run(IMAGES[:, 0, 0, 0], LABELS)
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
