"""The challenge's rules: every broken one is found, and the first image is named."""

import numpy as np
import pytest

from advgan_jax.evaluation import check_submission

N, EPSILON = 20, np.float32(0.3)


@pytest.fixture
def images():
    drawn = np.random.default_rng(0).integers(0, 256, (N, 28, 28, 1), np.uint8)
    drawn[:, :4] = 0
    drawn[:, -4:] = 255
    return drawn


@pytest.fixture
def adversarial(images):
    """As far as the rules allow, each pixel in a direction of its own."""
    x = images.astype(np.float32) / 255
    sign = np.random.default_rng(1).choice(np.float32([-1, 1]), x.shape)
    return np.clip(x + EPSILON * sign, 0, 1)


@pytest.mark.parametrize("shape", [(N, 784), (N, 28, 28), (N, 28, 28, 1)])
def test_images_at_the_bound_pass_in_every_known_shape(images, adversarial, shape):
    found = check_submission(adversarial.reshape(shape), images)
    np.testing.assert_array_equal(found, adversarial)


def test_sums_in_double_precision_and_other_scalings_pass(images):
    """They round otherwise, by less than one step of float32 at 1."""
    scaled = images * np.float32(1 / 255)
    check_submission(np.clip(scaled + np.float32(0.3), 0, 1), images)
    double = np.clip(images / 255 - 0.3, 0, 1).astype(np.float32)
    check_submission(double, images)


def test_four_steps_beyond_the_bound_are_too_far(images, adversarial):
    x = images.astype(np.float32) / 255
    adversarial[7, 9, 3, 0] = x[7, 9, 3, 0] = 0.5
    images = x
    adversarial[7, 9, 3, 0] += EPSILON
    check_submission(adversarial, images)
    adversarial[7, 9, 3, 0] += 4 * np.spacing(np.float32(0.8))
    with pytest.raises(ValueError, match=r"by at most 0.3, image 7 has 0.3000"):
        check_submission(adversarial, images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_is_refused(images, adversarial, value):
    adversarial[[3, 11], 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"finite numbers, image 3 .*; 2 of 20 images"):
        check_submission(adversarial, images)


@pytest.mark.parametrize("value", [-1e-6, np.nextafter(np.float32(1), np.float32(2))])
def test_a_pixel_out_of_range_is_refused(images, adversarial, value):
    adversarial[5, 1, 1, 0] = value
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], image 5 has"):
        check_submission(adversarial, images)


@pytest.mark.parametrize("shape", [(N, 28, 28, 2), (N, 28, 29), (N - 1, 784), (N,)])
def test_another_shape_is_refused(images, shape):
    with pytest.raises(ValueError, match=r"one of the shapes \[20, 28, 28, 1\]"):
        check_submission(np.zeros(shape, np.float32), images)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.float16])
def test_another_dtype_is_refused(images, adversarial, dtype):
    with pytest.raises(TypeError, match=f"float32 array, got {np.dtype(dtype)}"):
        check_submission(adversarial.astype(dtype), images)


def test_colour_images_have_no_third_shape():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="one of the shapes"):
        check_submission(np.zeros((2, 4, 4), np.float32), images)
