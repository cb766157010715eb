"""Rounded images are images of 8 bits, stay in the ball, and keep what they can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks
from advgan_jax.checks import to_float

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)


def norms(change, order):
    flat = np.asarray(change, np.float64).reshape(len(change), -1)
    return np.linalg.norm(flat, order, axis=1)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("steps", [0, 0.4, 1, 7.5, 8])
def test_each_pixel_is_the_nearest_level_in_the_ball(bounds, steps):
    span = bounds[1] - bounds[0]
    epsilon = steps * span / 255
    originals = to_float(LEVELS, bounds)
    change = RNG.uniform(-epsilon, epsilon, LEVELS.shape)
    images = np.clip(originals + change, *bounds).astype(np.float32)
    rounded = attacks.quantize(images, originals, epsilon=epsilon, bounds=bounds)
    values = to_float(np.arange(256, dtype=np.uint8), bounds)
    assert np.isin(rounded, values).all()
    # Worked by hand: levels are `steps` apart, so only whole steps are in the ball.
    moved = np.clip(
        np.rint((images.astype(float) - bounds[0]) * 255 / span),
        np.maximum(LEVELS - float(np.floor(steps)), 0),
        np.minimum(LEVELS + float(np.floor(steps)), 255),
    )
    np.testing.assert_array_equal(rounded, values[moved.astype(int)])
    # uint8 originals are the same images.
    again = attacks.quantize(images, LEVELS, epsilon=epsilon, bounds=bounds)
    np.testing.assert_array_equal(again, rounded)


def test_without_epsilon_the_nearest_level_is_taken():
    images = RNG.random((2, 3, 3, 1), np.float32)
    rounded = attacks.quantize(images, images)
    assert rounded.dtype == np.float32
    # Half a level, and one step of float32 at 1.
    assert np.abs(rounded - images).max() <= 0.5 / 255 + 2**-24
    binary = attacks.quantize(images, images, levels=2, bounds=(0, 1))
    np.testing.assert_array_equal(binary, images > 0.5)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_other_balls_are_never_left(norm, order, epsilon):
    originals = to_float(LEVELS // 2 + 64)  # no image leaves the box
    change = RNG.normal(size=LEVELS.shape)
    change *= epsilon / norms(change, order)[:, None, None, None]
    images = (originals + change).astype(np.float32)
    images[0] = originals[0]
    rounded = attacks.quantize(images, originals, epsilon=epsilon, norm=norm)
    distances = norms(rounded - originals, order)
    assert distances.max() <= epsilon * (1 + 1e-4)
    np.testing.assert_array_equal(rounded[0], originals[0])
    nearest = attacks.quantize(images, originals)
    near = norms(nearest - originals, order) <= epsilon
    np.testing.assert_array_equal(rounded[near], nearest[near])
    if epsilon == 0.3:  # some are outside, and little of them is given up
        assert not near.all()
        assert distances[1:].min() >= 0.85 * epsilon


def test_originals_that_are_no_images_of_8_bits():
    originals = np.full((2, 3, 3, 1), 0.5, np.float32)  # between levels 127 and 128
    originals[0] = 128 / 255
    with pytest.raises(
        ValueError, match=r"none within 0.001\d* of image 1; round the orig"
    ):
        attacks.quantize(originals, originals, epsilon=0.001)
    with pytest.raises(ValueError, match="of image 1; round"):
        attacks.quantize(originals, originals, epsilon=0.001, norm="l2")
    attacks.quantize(originals, originals, epsilon=0.5 / 255)


def test_jax_arrays_give_jax_arrays_and_traced_ones_are_refused():
    images = jnp.full((1, 2, 2, 1), 0.3)
    assert isinstance(attacks.quantize(images, images), jax.Array)
    with pytest.raises(TypeError, match="outside of `jit`"):
        jax.jit(lambda x: attacks.quantize(x, x))(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "l3"}, "Unknown norm 'l3'"),
        ({"levels": 1}, "`levels` must be an integer from 2"),
        ({"levels": 8.0}, "`levels` must be an integer from 2"),
        ({"epsilon": -1}, "`epsilon` must be"),
        ({"originals": np.zeros((1, 2, 2, 1))}, r"shape \[2, 2, 2, 1\] of `images`"),
        ({"originals": np.full((2, 2, 2, 1), 2.0)}, "`originals` must lie within"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"originals": np.zeros((2, 2, 2, 1)), **change}
    with pytest.raises(ValueError, match=message):
        attacks.quantize(np.zeros((2, 2, 2, 1)), **arguments)
