"""Which model errs on whose images."""

import numpy as np
import pytest

from advgan_jax.evaluation import transfer_matrix

LABELS = np.array([0, 1, 2, 0])
CLEAN = (0.5 * np.eye(3, dtype=np.float32))[LABELS].reshape(4, 1, 1, 3)
MODELS = {"plain": lambda x: x[:, 0, 0], "reversed": lambda x: x[:, 0, 0, ::-1]}


def test_rows_are_sources_and_columns_models():
    sets = {"clean": CLEAN, "rolled": np.roll(CLEAN, 1, axis=-1)}
    # Reversed, class 1 alone stays; rolled and reversed, 0 -> 1 -> 1, 1 -> 2 -> 0,
    # 2 -> 0 -> 2.
    rates = transfer_matrix(MODELS, sets, LABELS, batch_size=3)
    np.testing.assert_array_equal(rates, [[0, 0.75], [1, 0.75]])


def test_refuses():
    with pytest.raises(ValueError, match="got 2 and 0"):
        transfer_matrix(MODELS, {}, LABELS)
    with pytest.raises(ValueError, match="bounds") as caught:
        transfer_matrix(MODELS, {"bright": CLEAN * 3}, LABELS)
    assert caught.value.__notes__ == ["In images 'bright' shown to model 'plain'."]
