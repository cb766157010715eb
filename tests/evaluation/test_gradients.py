"""An evaluation marks images without a usable gradient, and searches without result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks
from advgan_jax.evaluation import (
    Evaluation,
    evaluate,
    evaluate_many,
    make_row,
    pool,
    worst_case_evaluation,
)

# Of the last image a pixel is 0, where a square root has no finite gradient.
IMAGES = np.full((4, 2, 1, 1), 0.5, np.float32)
IMAGES[:, 0] += np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1)
IMAGES[3, 1] = 0
LABELS = np.zeros(4, int)
FGSM = attacks.make_attack("fgsm", epsilon=0.1)


def roots(images):
    return jnp.sqrt(images[:, :, 0, 0])


def steep(images):
    """Beyond a difference of 0.11 the gradient of the cross-entropy underflows."""
    return 800 * images[:, :, 0, 0]


def in_steps(images):
    return jnp.round(255 * images[:, :, 0, 0])


def row(evaluation):
    fields = {"experiment": "e", "dataset": "d", "target_model": "m", "attack": "a"}
    fields |= {"threat_model": "white-box", "epsilon": None, "norm": None, "seed": 0}
    return make_row(evaluation, **fields)


def test_gradients_that_are_not_finite():
    with pytest.warns(UserWarning, match=r"0\.0% of .* not finite on 25\.0%"):
        result = evaluate(roots, FGSM, IMAGES, LABELS, batch_size=3)
    np.testing.assert_array_equal(result.gradient_not_finite, [0, 0, 0, 1])
    assert not result.gradient_zero.any()
    assert result.share("gradient_not_finite") == 0.25
    assert row(result)["gradient_not_finite"] == 0.25


@pytest.mark.parametrize("model", [steep, in_steps])
def test_gradients_of_zero(model):
    expected = [False, True, True, True] if model is steep else [True] * 4
    share = np.mean(expected)
    with pytest.warns(UserWarning, match=f"zero on {share:.1%} .* masked"):
        result = evaluate(model, FGSM, IMAGES, LABELS)
    np.testing.assert_array_equal(result.gradient_zero, expected)
    assert row(result)["gradient_zero"] == share
    assert row(result)["gradient_not_finite"] == 0


def test_the_loss_is_that_of_the_attack():
    """The margin has a gradient where the cross-entropy of a steep model has none."""
    searches = {
        "margin": attacks.make_attack("fgsm", epsilon=0.1, loss="margin"),
        "DeepFool": attacks.make_attack("deepfool", num_steps=3),
    }
    for result in evaluate_many(steep, searches, IMAGES, LABELS).values():
        assert result.share("gradient_zero") == 0

    def own(logits_fn, images, labels, **_):
        slope = jax.grad(lambda x: jnp.sum(logits_fn(x)[:, 0]))(images)
        return jnp.clip(images - 0.1 * jnp.sign(slope), 0, 1)

    with pytest.warns(UserWarning, match=r"zero on 75\.0%"):
        evaluate(steep, own, IMAGES, LABELS)


def test_images_that_do_not_count():
    """Towards a class that is certain, the cross-entropy has no gradient either."""
    wanted = np.array([0, 0, 0, 1])
    attack = attacks.make_attack("bim", epsilon=0.1, num_steps=2, loss="cross_entropy")
    result = evaluate(steep, attack, IMAGES, LABELS, target_labels=wanted)
    np.testing.assert_array_equal(result.gradient_zero, [0, 1, 1, 0])
    assert result.share("gradient_zero") == 0
    assert result.share("gradient_zero", "all") == 0.5


def numpy_model(images):
    """A model that JAX cannot differentiate."""
    shape = jax.ShapeDtypeStruct((len(images), 2), images.dtype)
    return jax.pure_callback(lambda x: np.asarray(x)[:, :, 0, 0], shape, images)


@pytest.mark.parametrize("name", ["advgan", "transfer"])
def test_attacks_that_need_no_gradient_of_the_model(name):
    extra = {
        "advgan": {"generator": lambda x: -0.1 * jnp.ones_like(x)},
        "transfer": {"surrogate_fn": in_steps, "num_steps": 1, "random_start": False},
    }
    attack = attacks.make_attack(name, epsilon=0.1, **extra[name])
    result = evaluate(numpy_model, attack, IMAGES, LABELS)
    assert result.gradient_zero is result.gradient_not_finite is None
    assert np.isnan(result.share("gradient_zero"))
    assert row(result)["gradient_zero"] is row(result)["gradient_not_finite"] is None


def test_one_percent_is_no_reason_to_warn():
    images = np.repeat(IMAGES[:1], 200, axis=0)
    images[:2] = IMAGES[3]
    assert evaluate(roots, FGSM, images, np.zeros(200, int)).num_images == 200


@pytest.mark.parametrize("name", ["carlini_wagner_l2", "carlini_wagner_linf"])
def test_a_search_with_few_steps_finds_nothing(name):
    few = {"num_steps": 1, "num_search_steps": 1} if "l2" in name else {"num_steps": 1}
    attack = attacks.make_attack(name, learning_rate=1e-3, **few)
    labels = np.array([0, 0, 0, 1])  # the last image is misclassified
    images = IMAGES[[0, 1, 2, 2]]
    result = evaluate(lambda x: x[:, :, 0, 0], attack, images, labels)
    np.testing.assert_array_equal(result.unchanged, [1, 1, 1, 0])
    assert result.share("unchanged") == row(result)["unchanged"] == 1
    assert result.share("unchanged", "all") == 0.75
    with pytest.raises(ValueError, match="Unknown mark 'unchange'"):
        result.share("unchange")


def test_combined_evaluations():
    def marked(prediction, zero):
        ones = np.ones(1)
        right, made = np.array([0]), np.array([prediction])
        marks = {} if zero is None else {"gradient_zero": np.array([zero])}
        return Evaluation(right, None, right, made, ones, ones, ones, **marks)

    failed, fooled, unknown = marked(0, True), marked(1, False), marked(0, None)
    assert worst_case_evaluation([failed, fooled]).gradient_zero.tolist() == [False]
    assert worst_case_evaluation([unknown, fooled]).gradient_zero is None
    assert pool([failed, fooled]).gradient_zero.tolist() == [True, False]
    assert pool([failed, unknown]).gradient_zero is None
    targeted = Evaluation(
        *(np.array([0]), np.array([1]), np.array([0]), np.array([1])),
        *(np.ones(1), np.ones(1), np.ones(1)),
    )
    with pytest.raises(ValueError, match="all targeted or all untargeted"):
        pool([failed, targeted])
