"""scikit-learn's handwritten digits: 1797 real images of 8x8, part of its package."""

import numpy as np

from advgan_jax.data.dataset import Dataset, Split, check_split, stratified_mask

_NUM_TEST = 360
_SEED = 0  # of the split; another one would make published numbers incomparable


def load_digits() -> Dataset:
    """Loads the digits; needs no network.

    Pixels k of 0..16 become k/16, exactly. Every class gives a fifth of its images to
    the test split, always the same ones.

    Returns:
      1437 training and 360 test images, float32 `[N, 8, 8, 1]`, 10 classes.
    """
    # Imported here: it takes longer than everything else a user of TFDS loads.
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = (bunch.images / 16).astype(np.float32)
    every = check_split(images, bunch.target, 10, where="digits")
    test = stratified_mask(every.labels, _NUM_TEST, seed=_SEED)
    return Dataset(
        name="digits",
        train=Split(every.images[~test], every.labels[~test]),
        test=Split(every.images[test], every.labels[test]),
        num_classes=10,
    )
