"""Test which arrays are accepted, converted or rejected, and how splits divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax.data import (
    Dataset,
    Split,
    check_split,
    split_for_distillation,
    to_float,
)


def make_arrays(num_images=4, dtype=np.float32):
    images = np.full((num_images, 3, 5, 1), 0.5).astype(dtype)
    return images, np.arange(num_images) % 2


def test_good_arrays_are_neither_changed_nor_copied():
    images, labels = make_arrays()
    labels = labels.astype(np.int32)
    split = check_split(images, labels, 2)
    assert split.images is images
    assert split.labels is labels
    assert len(split) == 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [("uint8", "uint8"), ("float16", "float32"), ("float64", "float32")],
)
def test_dtypes_are_normalised(given, kept):
    images, labels = make_arrays(dtype=given)
    split = check_split(images, labels.astype(np.uint8), 2)
    assert (split.images.dtype, split.labels.dtype) == (kept, np.int32)


def test_grey_images_get_a_channel():
    images, labels = make_arrays()
    assert check_split(images[..., 0], labels, 2).images.shape == (4, 3, 5, 1)


def test_jax_arrays_and_lists_are_accepted():
    images, labels = make_arrays()
    split = check_split(jnp.asarray(images), labels.tolist(), 2)
    assert isinstance(split.images, np.ndarray)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({2: 255.0}, r"from 0.5 to 255, the first wrong one in image 2. Divide by 255"),
        ({1: -1.0, 3: 9}, r"from -1 to 9, .* image 1. Undo the normalisation"),
        ({3: 1.0000001}, r"in image 3. If this is rounding, clip them"),
        ({2: 1000.0}, r"Divide by 1000"),
        ({2: np.nan}, r"in image 2. Remove or repair NaN"),
        ({3: np.nan, 1: 7}, r"in image 3. Remove or repair NaN"),
        ({2: -np.inf}, r"in image 2. Remove or repair NaN"),
    ],
)
def test_pixels_outside_the_unit_interval(pixels, message):
    images, labels = make_arrays()
    for row, value in pixels.items():
        images[row, 1, 1, 0] = value
    with pytest.raises(ValueError, match=message):
        check_split(images, labels, 2)


@pytest.mark.parametrize("shape", [(4, 15), (4,), (4, 1, 3, 5), (4, 3, 5, 2), ()])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"\[N, H, W, C\].*got \["):
        check_split(np.zeros(shape, np.float32), np.zeros(4, int), 2)


@pytest.mark.parametrize("shape", [(0, 3, 5, 1), (4, 0, 5, 1)])
def test_empty_split(shape):
    with pytest.raises(ValueError, match=r"train has no images: got shape \["):
        check_split(np.zeros(shape, np.uint8), np.zeros(0, int), 2, where="train")


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, bool, complex])
def test_other_image_dtypes(dtype):
    images, labels = make_arrays(dtype=dtype)
    with pytest.raises(TypeError, match=r"uint8 or floating, got .*astype\(np.uint8\)"):
        check_split(images, labels, 2)


@pytest.mark.parametrize(
    ("labels", "cure"),
    [
        (np.eye(2)[[0, 1, 0, 1]], "one-hot labels are not accepted"),
        (np.zeros(4), r"astype\(int\)"),
    ],
)
def test_float_labels(labels, cure):
    with pytest.raises(TypeError, match=cure):
        check_split(make_arrays()[0], labels, 2)


@pytest.mark.parametrize("shape", [(4, 2), (3,), (5,), (4, 1)])
def test_labels_of_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"test labels.*shape \(4,\)"):
        check_split(make_arrays()[0], np.zeros(shape, int), 2, where="test")


@pytest.mark.parametrize("bad", [-1, 2])
def test_label_out_of_range(bad):
    with pytest.raises(ValueError, match=rf"in \[0, 2\), got {bad} at index 3"):
        check_split(make_arrays()[0], np.array([0, 1, 0, bad]), 2)


def test_too_few_classes():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        check_split(*make_arrays(), 1)


@pytest.mark.parametrize("other", [((4, 5, 3, 1), np.uint8), ((4, 3, 5, 1), "f4")])
def test_train_and_test_must_agree(other):
    labels = np.zeros(4, np.int32)
    train = Split(np.zeros((4, 3, 5, 1), np.uint8), labels)
    with pytest.raises(ValueError, match="one shape and dtype, got uint8"):
        Dataset("mine", train, Split(np.zeros(*other), labels), 2)


def test_take():
    split = check_split(*make_arrays(), 2)
    assert split.take(3).labels.tolist() == [0, 1, 0]
    for bad in (0, 5):
        with pytest.raises(ValueError, match=f"from 1 to 4.*got {bad}"):
            split.take(bad)


def test_to_float_has_the_same_bits_everywhere():
    pixels = np.arange(256, dtype=np.uint8)
    host = to_float(pixels)
    assert isinstance(host, np.ndarray)
    assert host.dtype == np.float32
    np.testing.assert_array_equal(host, to_float(jnp.asarray(pixels)))
    np.testing.assert_array_equal(host, jax.jit(to_float)(pixels))
    np.testing.assert_array_max_ulp(host, (pixels / 255).astype(np.float32), 1)
    assert (host[0], host[255]) == (0.0, 1.0)
    assert np.round(host * 255).astype(np.uint8).tolist() == pixels.tolist()


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 255), (-0.3, 0.7)])
def test_uint8_covers_any_bounds(bounds):
    pixels = np.arange(256, dtype=np.uint8)
    host = to_float(pixels, bounds)
    assert (host[0], host[255]) == tuple(map(np.float32, bounds))
    exact = bounds[0] + pixels * ((bounds[1] - bounds[0]) / 255)
    np.testing.assert_array_equal(host, exact.astype(np.float32))
    traced = jax.jit(lambda x: to_float(x, bounds))(pixels)
    np.testing.assert_array_equal(host, traced)


def test_to_float_keeps_float32_and_rejects_other_dtypes():
    images = make_arrays()[0]
    assert to_float(images) is images
    for dtype in (np.float16, np.float64):
        assert to_float(images.astype(dtype)).dtype == np.float32
    with pytest.raises(TypeError, match="`mine` must be uint8 or floating, got uint16"):
        to_float(images.astype(np.uint16), name="mine")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.77])
def test_split_for_distillation(fraction):
    labels = np.repeat(np.arange(3), [50, 30, 21]).astype(np.int32)
    labels = np.random.default_rng(1).permutation(labels)
    ids = np.arange(101, dtype=np.float32).reshape(-1, 1, 1, 1)
    parts = split_for_distillation(Split(ids, labels), fraction, seed=3)

    rows = [part.images.ravel().astype(int).tolist() for part in parts]
    assert sorted(rows[0] + rows[1]) == list(range(101))
    assert len(rows[1]) == round(101 * fraction)
    for part, row in zip(parts, rows, strict=True):
        assert row == sorted(row)
        np.testing.assert_array_equal(part.labels, labels[row])
    shares = np.bincount(parts[1].labels) - fraction * np.bincount(labels)
    assert np.abs(shares).max() <= 1

    again = split_for_distillation(Split(ids, labels), fraction, seed=3)
    other = split_for_distillation(Split(ids, labels), fraction, seed=4)
    np.testing.assert_array_equal(parts[1].images, again[1].images)
    assert not np.array_equal(parts[1].images, other[1].images)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2, 0.01, 0.99, float("nan")])
def test_split_for_distillation_rejects_empty_parts(fraction):
    with pytest.raises(ValueError, match=r"in \(0, 1\).* of 4 images"):
        split_for_distillation(Split(*make_arrays()), fraction, seed=0)
