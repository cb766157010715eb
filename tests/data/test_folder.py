"""Image files of every kind that users have, and files that are no usable images."""

import shutil

import numpy as np
import pytest
from PIL import Image

from advgan_jax import attacks, data
from advgan_jax.checks import to_float

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """Two classes of six colour images, 4 rows of 5 pixels, and their pixels."""
    made = {}
    for name in ("cat", "dog"):
        for i in range(6):
            array = made[name, i] = pixels(4, 5, 3)
            write(tmp_path / "photos" / name / f"{i}.png", array)
    return tmp_path / "photos", made


def test_folders_are_classes_and_a_fifth_becomes_test_images(photos):
    folder, made = photos
    (folder / "cat" / ".hidden").write_text("no image")
    loaded = data.load_dataset(f"folder:{folder}")
    assert (loaded.name, loaded.num_classes) == (f"folder:{folder}", 2)
    assert loaded.train.image_shape == (4, 5, 3)
    assert (loaded.train.dtype, loaded.train.num_bytes) == (np.uint8, 10 * 60)
    assert loaded.train.labels.tolist() == [0] * 5 + [1] * 5
    assert loaded.test.labels.tolist() == [0, 1]
    # Each image is in one part, with its own class.
    for label, name in enumerate(("cat", "dog")):
        found = [
            image.tobytes()
            for part in (loaded.train, loaded.test)
            for image in part.rows(part.labels == label)[0]
        ]
        assert sorted(found) == sorted(
            a.tobytes() for (n, _), a in made.items() if n == name
        )
    again = data.load_image_folder(folder)
    np.testing.assert_array_equal(again.test.images, loaded.test.images)
    half = data.load_image_folder(folder, split=0.5)
    assert len(half.test) == len(half.train) == 6


def test_images_are_read_when_they_are_used(photos):
    folder, _ = photos
    train = data.load_image_folder(folder).train
    images, labels = train.rows(np.array([9, 0]))
    assert labels.tolist() == [1, 0]
    np.testing.assert_array_equal(images, train.images[[9, 0]])
    first = data.load_image_folder(folder).train.take(3)
    np.testing.assert_array_equal(first.images, train.images[:3])
    assert "ListedSplit" in repr(first)
    unread = data.load_image_folder(folder).train
    shutil.rmtree(folder)
    np.testing.assert_array_equal(train.rows(np.array([9]))[0], images[:1])
    with pytest.raises(ValueError, match="image that Pillow can read"):
        unread.rows(np.array([9]))


def test_folders_of_training_and_test_images(tmp_path):
    for part, value in (("train", 10), ("val", 20)):
        for name in ("2", "10", "1"):
            array = np.full((2, 2), value + int(name), np.uint8)
            write(tmp_path / part / name / "a.png", array)
    with pytest.raises(ValueError, match="must be all of 0 to K - 1, got no 0"):
        data.load_image_folder(tmp_path)
    for part in ("train", "val"):
        for old, new in (("1", "0"), ("2", "1"), ("10", "2")):
            (tmp_path / part / old).rename(tmp_path / part / new)
    for split in (None, "val"):
        loaded = data.load_image_folder(tmp_path, split=split)
        assert loaded.test.labels.tolist() == [0, 1, 2]
        assert loaded.test.images.ravel()[::4].tolist() == [21, 22, 30]
        assert loaded.train.images.ravel()[::4].tolist() == [11, 12, 20]
    with pytest.raises(ValueError, match="so `split` must be the name of one"):
        data.load_image_folder(tmp_path, split=0.3)
    with pytest.raises(ValueError, match=r"the folders 'train' and 'tests', got"):
        data.load_image_folder(tmp_path, split="tests")
    shutil.rmtree(tmp_path / "val" / "2")
    with pytest.raises(ValueError, match="must have the same classes, got '2' in one"):
        data.load_image_folder(tmp_path)
    (tmp_path / "more").mkdir()
    with pytest.raises(ValueError, match="got both: 'more'; move"):
        data.load_image_folder(tmp_path)


def test_size_channels_and_share_in_the_name(photos):
    folder, _ = photos
    write(folder / "cat" / "grey.png", pixels(8, 8))
    name = f"folder:{folder}?size=2x3&channels=1&split=0.5"
    loaded = data.load_dataset(name)
    assert (loaded.name, loaded.train.image_shape) == (name, (2, 3, 1))
    assert len(loaded.test) == 4 + 3
    same = data.load_image_folder(folder, size=(2, 3), channels=1, split=0.5)
    np.testing.assert_array_equal(same.train.images, loaded.train.images)
    square = data.load_dataset(f"folder:{folder}?size=2&channels=4")
    assert square.train.image_shape == (2, 2, 4)
    for bad, message in (
        ("size=a", "`size` in folder:.* must be a number"),
        ("size=0", "`size` must be one or two positive"),
        ("sise=3", "Unknown option of .*'sise'. Did you mean 'size'"),
        ("channels=2", "`channels` must be one of"),
        ("split=1.5", r"a share in \(0, 1\), got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            data.load_dataset(f"folder:{folder}?{bad}")


def test_scaling_crops_the_middle(tmp_path):
    """Of 2 rows and 6 columns, the middle 2 columns remain, unchanged."""
    wide = pixels(2, 6)
    for name in ("a", "b"):
        for i in range(2):
            write(tmp_path / name / f"{i}.png", wide)
    loaded = data.load_image_folder(tmp_path, size=2)
    np.testing.assert_array_equal(loaded.test.images[0, ..., 0], wide[:, 2:4])


def test_images_that_convert_without_loss(tmp_path):
    """Palettes, bilevel images, and the side that is up in photos."""
    colours = pixels(4, 5, 3) & 0xC0
    upright = Image.fromarray(colours)
    tag = Image.Exif()
    tag[0x0112] = 6  # turned by a quarter
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    upright.quantize(256).save(tmp_path / "a" / "palette.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "a" / "turned.webp", lossless=True, exif=tag)
    for name in ("plain.png", "twin.png"):
        upright.save(tmp_path / "b" / name)
    loaded = data.load_image_folder(tmp_path)
    for part in (loaded.train, loaded.test):
        for image in part.images:
            np.testing.assert_array_equal(image, colours)
    black = np.array([[True, False]])
    for name in ("c", "d"):
        for i in range(2):
            write(tmp_path / "bilevel" / name / f"{i}.png", black)
    loaded = data.load_image_folder(tmp_path / "bilevel")
    assert loaded.test.images[0].ravel().tolist() == [255, 0]


def add_cmyk(path):
    Image.fromarray(pixels(4, 5, 4), "CMYK").save(path.with_suffix(".jpg"))


def add_animation(path):
    frames = [Image.fromarray(pixels(4, 5)) for _ in range(3)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def truncate(path):
    write(path, pixels(4, 5, 3))
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: p.write_text("no image"),
            r"x\.png must be an image that Pillow can",
        ),
        (lambda p: p.mkdir(), r"x\.png must be an image that Pillow can read"),
        (truncate, r"x\.png must be an image that Pillow can read"),
        (lambda p: write(p, pixels(4, 5)), r"x\.png is grey .*first image is RGB"),
        (lambda p: write(p, pixels(5, 4, 3)), r"x\.png is RGB of 5x4 .* is RGB of 4x5"),
        (lambda p: write(p, pixels(4, 5, 4)), "is RGBA of 4x5"),
        (lambda p: write(p, pixels(4, 5).astype(np.uint16)), "has 16 bits or more"),
        (lambda p: write(p, pixels(4, 5, 2)), "has mode LA; expected grey, RGB or"),
        (add_cmyk, r"x\.jpg has mode CMYK"),
        (add_animation, r"x\.gif is animated, with 3 frames"),
    ],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_unusable_images_are_named(photos, spoil, message):
    folder, _ = photos
    spoil(folder / "dog" / "x.png")
    with pytest.raises(ValueError, match=message) as caught:
        _ = data.load_image_folder(folder).train.images
    assert "\n" not in str(caught.value)
    if "Pillow" not in message and "is grey" not in message:
        return
    # Conversion repairs no damage.
    if "is grey" in message:
        data.load_image_folder(folder, size=4, channels=3)
    else:
        with pytest.raises(ValueError, match="Pillow"):
            _ = data.load_image_folder(folder, size=4, channels=3).train.images


def test_missing_folders_and_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder of images, found none at"):
        data.load_dataset(f"folder:{tmp_path}/nothing")
    with pytest.raises(ValueError, match="at least two classes, got none"):
        data.load_dataset(f"folder:{tmp_path}")
    write(tmp_path / "a" / "0.png", pixels(2, 2))
    with pytest.raises(ValueError, match=r"at least two classes, got \['a'\]"):
        data.load_dataset(f"folder:{tmp_path}")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="Class 'b' has no images in"):
        data.load_dataset(f"folder:{tmp_path}")
    for i in range(2):
        write(tmp_path / "b" / f"{i}.png", pixels(2, 2))
    with pytest.raises(ValueError, match="Class 'a' must have at least two images"):
        data.load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_saved_images_come_back_with_the_same_bits(tmp_path, bounds, channels):
    labels = np.array([1, 0, 1, 0, 0])
    images = to_float(pixels(5, 3, 4, channels), bounds)
    paths = data.save_images(tmp_path / "new", images, labels, bounds=bounds)
    assert [p.parent.name for p in paths] == ["1", "0", "1", "0", "0"]
    assert [p.name for p in paths] == [f"{i}.png" for i in range(5)]
    loaded = data.load_image_folder(tmp_path / "new")
    found = np.concatenate([loaded.train.images, loaded.test.images])
    assert {i.tobytes() for i in to_float(found, bounds)} == {
        i.tobytes() for i in images
    }
    with pytest.raises(FileExistsError, match="must be empty or not exist"):
        data.save_images(tmp_path / "new", images, labels, bounds=bounds)


def test_images_that_files_cannot_hold_are_refused(tmp_path):
    images = np.full((2, 3, 3, 1), 0.5, np.float32)
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match=r"would change by 0.00196.*attacks.quantize"):
        data.save_images(tmp_path, images, labels)
    rounded = attacks.quantize(images, images, epsilon=0.002)
    assert len(data.save_images(tmp_path, rounded, labels)) == 2
    with pytest.raises(ValueError, match="channels, got shape"):
        data.save_images(tmp_path, np.zeros((1, 3, 3, 2)), labels[:1])
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        data.save_images(tmp_path, images, labels[:1])
