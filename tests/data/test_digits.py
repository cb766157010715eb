"""scikit-learn's digits."""

import hashlib

import numpy as np
from sklearn import datasets

from advgan_jax.data import load_dataset


def test_digits_are_all_there_and_split_for_ever():
    digits = load_dataset("digits")
    train, test = digits.train, digits.test
    assert (digits.name, digits.num_classes) == ("digits", 10)
    assert train.images.shape == (1437, 8, 8, 1)
    assert test.images.shape == (360, 8, 8, 1)
    assert train.images.dtype == np.float32
    # The published numbers are of these very test images.
    digest = hashlib.sha256(test.images.tobytes() + test.labels.tobytes()).hexdigest()
    assert digest[:16] == "516aa1829f122117"

    bunch = datasets.load_digits()
    given = np.concatenate([bunch.images.reshape(-1, 64), bunch.target[:, None]], 1)
    loaded = np.concatenate(
        [
            np.concatenate([s.images.reshape(-1, 64) * 16, s.labels[:, None]], 1)
            for s in (train, test)
        ]
    )
    assert sorted(map(tuple, loaded)) == sorted(map(tuple, given))
    share = np.bincount(test.labels) - np.bincount(bunch.target) * 360 / 1797
    assert np.abs(share).max() <= 1
