"""One class after another: what is counted where, and all of it together."""

import itertools
import types

import jax
import numpy as np
import pytest

from advgan_jax.evaluation import (
    _measure,
    evaluate,
    evaluate_per_class,
    make_row,
    pool,
    success_by_pair,
)

LABELS = np.array([0, 1, 2, 0])
CLEAN = np.array([0, 1, 2, 1])  # the last image is misclassified
IMAGES = (0.5 * np.eye(3, dtype=np.float32))[CLEAN].reshape(4, 1, 1, 3)


def logits_fn(images):
    return images[:, 0, 0, :]


def to_labels_but_two(
    logits_fn, images, labels, *, key=None, targeted=False, bounds=(0, 1)
):
    """Reaches each wanted class but class 2."""
    reached = 0.5 * jax.nn.one_hot(labels, 3).reshape(images.shape)
    return jax.numpy.where((labels == 2)[:, None, None, None], images, reached)


@pytest.fixture(scope="module")
def by_class():
    return evaluate_per_class(
        logits_fn, to_labels_but_two, IMAGES, LABELS, range(3), batch_size=3, keep=2
    )


def test_equals_one_evaluation_for_each_class(by_class):
    assert list(by_class) == [0, 1, 2]
    for wanted, found in by_class.items():
        target_labels = np.full(4, wanted)
        alone = evaluate(
            logits_fn, to_labels_but_two, IMAGES, LABELS, target_labels=target_labels
        )
        for name in ("target_labels", "clean_predictions", "adversarial_predictions"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
        np.testing.assert_array_equal(found.l2, alone.l2)
        assert len(found.examples) == 2
        assert 0 < found.seconds < 1


def test_each_class_has_its_own_time(monkeypatch):
    """By a clock that ticks once for each time it is looked at: a second a batch."""
    clock = types.SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(_measure, "time", clock)
    found = evaluate_per_class(
        logits_fn, to_labels_but_two, IMAGES, LABELS, range(3), batch_size=3
    )
    assert [e.seconds for e in found.values()] == [2, 2, 2]


def test_counts_rightly_classified_images_of_other_classes(by_class):
    assert [e.success()[:2] for e in by_class.values()] == [(2, 2), (2, 2), (0, 2)]
    pairs = success_by_pair(pool(list(by_class.values())), 3)
    np.testing.assert_array_equal(pairs.trials, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(pairs.successes, [[0, 1, 0], [1, 0, 0], [1, 1, 0]])


def test_pool_weighs_each_image_the_same(by_class):
    everything = pool(list(by_class.values()))
    assert everything.num_images == 12
    assert everything.success()[:2] == (4, 6)
    assert everything.clean_accuracy == 0.75
    total = sum(e.seconds for e in by_class.values())
    assert everything.seconds == pytest.approx(total)
    assert everything.examples is None


def test_rows_name_the_class_of_all_images(by_class):
    names = {
        "experiment": "e",
        "dataset": "d",
        "target_model": "m",
        "attack": "aigan",
        "threat_model": "semi-white-box",
        "epsilon": None,
        "norm": None,
        "seed": 0,
    }
    classes = [make_row(e, **names)["target_class"] for e in by_class.values()]
    assert classes == [0, 1, 2]
    assert make_row(pool(list(by_class.values())), **names)["target_class"] is None


def test_refuses(by_class):
    with pytest.raises(ValueError, match=r"`target_labels` must be in \[0, 3\), got 3"):
        evaluate_per_class(logits_fn, to_labels_but_two, IMAGES, LABELS, [3])
    with pytest.raises(ValueError, match="at least one, got none"):
        pool([])
