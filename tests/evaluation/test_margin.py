"""Margins: by how many logits an attack succeeds on each image."""

import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax.evaluation import (
    evaluate,
    evaluate_per_class,
    pool,
    within,
    worst_case_evaluation,
)

IMAGES = np.array([[0.9, 0.1, 0.4], [0.2, 0.8, 0.5]], np.float32)[:, None, None]
LABELS = np.array([0, 2])


def model(images):
    """The logits are the three pixels."""
    return 10 * images.reshape(len(images), 3)


def swap(logits_fn, images, labels, *, key=None, targeted=False, bounds=(0, 1)):
    """Exchange the first two pixels."""
    return jnp.asarray(images)[..., jnp.array([1, 0, 2])]


def test_untargeted_margins_are_those_of_the_best_wrong_class():
    found = evaluate(model, swap, IMAGES, LABELS)
    # Logits (1, 9, 4) with label 0, and (8, 2, 5) with label 2.
    np.testing.assert_allclose(found.margin, [8, 3], atol=1e-5)
    np.testing.assert_array_equal(found.succeeded, found.margin > 0)


def test_targeted_margins_are_those_of_the_wanted_class():
    found = evaluate(model, swap, IMAGES, LABELS, target_labels=np.array([1, 1]))
    np.testing.assert_allclose(found.margin, [5, -6], atol=1e-5)
    np.testing.assert_array_equal(found.succeeded, found.margin > 0)


def test_padding_has_no_margin():
    found = evaluate(
        model, swap, np.tile(IMAGES, (2, 1, 1, 1))[:3], [0, 2, 0], batch_size=2
    )
    np.testing.assert_allclose(found.margin, [8, 3, 8], atol=1e-5)


def test_combinations_keep_margins_only_where_they_are_known():
    swapped = evaluate(model, swap, IMAGES, LABELS)
    same = evaluate(model, lambda m, x, *_, **__: jnp.asarray(x), IMAGES, LABELS)
    assert same.margin == pytest.approx([-5, 3], abs=1e-5)
    worst = worst_case_evaluation([same, swapped])
    assert worst.margin == pytest.approx([8, 3], abs=1e-5)
    assert within(swapped, 0.1, "linf").margin is None
    by_class = evaluate_per_class(model, swap, IMAGES, LABELS, [1, 2])
    np.testing.assert_allclose(
        pool(list(by_class.values())).margin, [5, -6, -5, -3], atol=1e-5
    )
