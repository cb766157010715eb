"""Load the handwritten digits of scikit-learn, 1797 images of 8x8 in its package."""

import numpy as np

from advgan_jax.data.dataset import Dataset, check_split, divide, stratified_mask

_NUM_TEST = 360
_SEED = 0  # of the split that all published numbers use


def load_digits() -> Dataset:
    """Load the digits, which need no network.

    A pixel k of 0..16 becomes k/16, exactly. The test split always has the same fifth
    of each class.

    Returns:
      1437 training and 360 test images, float32 `[N, 8, 8, 1]`, 10 classes.
    """
    # Importing it takes longer than all that a user of TFDS imports.
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (np.reshape(pixels, (-1, 8, 8)) / 16).astype(np.float32)
    every = check_split(images, labels, 10, where="digits")
    train, test = divide(every, stratified_mask(every.labels, _NUM_TEST, seed=_SEED))
    return Dataset(name="digits", train=train, test=test, num_classes=10)
