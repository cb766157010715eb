"""Which model errs on whose images."""

import numpy as np
import pytest

from advgan_jax.evaluation import add_noise, rescale_perturbations, transfer_matrix

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


class TestRescaledPerturbations:
    def test_every_perturbation_gets_the_same_size(self):
        rng = np.random.default_rng(0)
        images = rng.random((5, 4, 3, 2), np.float32)
        moved = images + rng.normal(0, 0.01, images.shape) * np.arange(5).reshape(
            5, 1, 1, 1
        )
        larger = rescale_perturbations(images, moved, 0.1)
        change = larger.astype(np.float64) - images
        sizes = np.sqrt(np.mean(change**2, axis=(1, 2, 3)))
        # The first was not moved at all; the sums are rounded to float32, 6e-8.
        np.testing.assert_allclose(sizes, [0, 0.1, 0.1, 0.1, 0.1], rtol=1e-5)
        along = np.sum(change * (moved - images), axis=(1, 2, 3))
        lengths = np.sqrt(np.sum((moved - images) ** 2, axis=(1, 2, 3)))
        # Directions are kept: the cosine is one.
        np.testing.assert_allclose(
            along[1:], (0.1 * np.sqrt(24) * lengths)[1:], rtol=1e-5
        )
        assert larger.dtype == np.float32
        flat = rescale_perturbations(*(a.reshape(5, -1) for a in (images, moved)), 0.1)
        np.testing.assert_allclose(flat.reshape(images.shape), larger, rtol=1e-6)

    def test_pixels_are_not_clipped(self):
        images = np.ones((1, 1, 1, 1), np.float32)
        assert rescale_perturbations(images, images - 0.1, 2.0).item() == pytest.approx(
            -1
        )

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"the shape \[4, 1, 1, 3\]"):
            rescale_perturbations(CLEAN, CLEAN[:2], 0.1)
        with pytest.raises(ValueError, match="`rms_distortion` must be"):
            rescale_perturbations(CLEAN, CLEAN, -0.1)


def test_noise_has_its_size_and_is_repeatable():
    images = np.full((100, 10, 10, 1), 0.5, np.float32)
    noisy = add_noise(images, 0.3, seed=0)
    # Four standard errors of a deviation from 10,000 draws.
    assert np.std(noisy) == pytest.approx(0.3, abs=4 * 0.3 / np.sqrt(2 * 10_000))
    assert noisy.min() < 0 < 1 < noisy.max()
    np.testing.assert_array_equal(noisy, add_noise(images, 0.3, seed=0))
    assert not np.array_equal(noisy, add_noise(images, 0.3, seed=1))
    with pytest.raises(ValueError, match="`rms_distortion` must be"):
        add_noise(images, -1.0, seed=0)
