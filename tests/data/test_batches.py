"""Test the order of training and the batches of evaluation."""

import jax
import numpy as np
import pytest

from advgan_jax.data import evaluation_batches, shuffled


def test_order_is_a_permutation_of_its_arguments_only():
    key = jax.random.key(0)
    first = shuffled(key, 0, 10)
    assert sorted(first.tolist()) == list(range(10))
    np.testing.assert_array_equal(first, shuffled(key, 0, 10))
    np.testing.assert_array_equal(first, jax.jit(lambda i: shuffled(key, i, 10))(0))
    assert not np.array_equal(first, shuffled(key, 1, 10))
    assert not np.array_equal(first, shuffled(jax.random.key(1), 0, 10))


@pytest.mark.parametrize(
    ("num_images", "masks"),
    [(4, [[1, 1], [1, 1]]), (3, [[1, 1], [1, 0]]), (1, [[1, 0]]), (0, [])],
)
def test_evaluation_batches(num_images, masks):
    images = np.arange(num_images, dtype=np.uint8).reshape(-1, 1, 1, 1)
    labels = np.arange(num_images) + 7
    batches = list(evaluation_batches(images, labels, 2))
    assert [mask.astype(int).tolist() for _, _, mask in batches] == masks
    assert all(x.shape == (2, 1, 1, 1) and y.shape == (2,) for x, y, _ in batches)
    rows = [int(row) for x, _, mask in batches for row in x[mask].ravel()]
    assert rows == list(range(num_images))
    ids = [int(label) for _, y, mask in batches for label in y[mask]]
    assert ids == labels.tolist()


def test_padding_is_a_real_image():
    images = np.array([0.25, 0.75], np.float32).reshape(2, 1, 1, 1)
    ((padded, labels, mask),) = evaluation_batches(images, np.array([3, 4]), 4)
    assert padded.ravel().tolist() == [0.25, 0.75, 0.75, 0.75]
    assert labels.tolist() == [3, 4, 4, 4]
    assert mask.dtype == bool
    assert padded.dtype == np.float32


def test_evaluation_batches_rejects_bad_arguments_at_the_call():
    images = np.zeros((2, 1, 1, 1))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        evaluation_batches(images, np.zeros(2), 0)
    with pytest.raises(ValueError, match="equal lengths, got 2 and 3"):
        evaluation_batches(images, np.zeros(3), 1)
