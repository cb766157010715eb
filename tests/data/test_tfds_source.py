"""Test sets of TensorFlow Datasets: real ones, and small ones of every shape."""

import io
import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from advgan_jax.data import Split, load_dataset, tfds_source
from advgan_jax.data.dataset import digest_rows

IMAGE = tfds.features.Image(shape=(2, 3, 3))
CLASS = tfds.features.ClassLabel(num_classes=4)


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def make_image(i, shape=(2, 3, 3)):
    return np.full(shape, 10 * i + 1, np.uint8)


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set whose features and examples each test chooses."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, fields, splits, keys=None, **kwargs):
        self.fields, self.splits, self.keys = fields, splits, keys
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self.fields),
            supervised_keys=self.keys,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {k: iter(enumerate(rows)) for k, rows in self.splits.items()}

    def _generate_examples(self):
        raise NotImplementedError


def prepare(folder, fields=None, *, splits=("train", "test"), rows=None, keys=None):
    fields = fields or {"image": IMAGE, "label": CLASS}
    if rows is None:
        rows = [{"image": encode(make_image(i)), "label": i} for i in range(4)]
    Tiny(
        fields=fields, splits=dict.fromkeys(splits, rows), keys=keys, data_dir=folder
    ).download_and_prepare()


def test_a_set_without_code_is_known_by_its_folder(tmp_path):
    prepare(tmp_path)
    tiny = load_dataset("tiny", data_dir=tmp_path)
    assert (tiny.name, tiny.num_classes) == ("tiny", 4)
    for split in (tiny.train, tiny.test):
        assert sorted(split.labels.tolist()) == [0, 1, 2, 3]
        for image, label in zip(split.images, split.labels, strict=True):
            np.testing.assert_array_equal(image, make_image(label))
    assert load_dataset("tiny:1.0.0", data_dir=tmp_path).num_classes == 4


def test_argument_wins_over_environment_over_default(tmp_path, monkeypatch):
    prepare(tmp_path / "one")
    prepare(
        tmp_path / "two",
        splits=("train", "test"),
        rows=[{"image": encode(make_image(0)), "label": 0}],
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "one"))
    assert len(load_dataset("tiny").train) == 4
    assert len(load_dataset("tiny", data_dir=tmp_path / "two").train) == 1
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="Unknown data set 'tiny'"):
        load_dataset("tiny")
    prepare(tmp_path / "tensorflow_datasets")
    assert len(load_dataset("tiny").train) == 4


def test_validation_replaces_a_missing_test(tmp_path):
    prepare(tmp_path, splits=("train", "validation"))
    assert len(load_dataset("tiny", data_dir=tmp_path).test) == 4


def test_test_wins_over_validation(tmp_path):
    rows = [{"image": encode(make_image(i)), "label": i} for i in range(3)]
    Tiny(
        fields={"image": IMAGE, "label": CLASS},
        splits={"validation": rows[:1], "train": rows, "test": rows[1:]},
        data_dir=tmp_path,
    ).download_and_prepare()
    assert sorted(load_dataset("tiny", data_dir=tmp_path).test.labels) == [1, 2]


def test_no_split_to_train_or_test_on(tmp_path):
    prepare(tmp_path / "a", splits=("train",))
    prepare(tmp_path / "b", splits=("test", "extra"))
    with pytest.raises(ValueError, match=r"'train', and 'test'.*got \['train'\]"):
        load_dataset("tiny", data_dir=tmp_path / "a")
    with pytest.raises(ValueError, match=r"got \['extra', 'test'\]|'test', 'extra'"):
        load_dataset("tiny", data_dir=tmp_path / "b")


def test_fewer_examples_than_records_are_refused(tmp_path):
    """So an edited number cannot shorten a test set."""
    prepare(tmp_path)
    info = tmp_path / "tiny" / "1.0.0" / "dataset_info.json"
    text = info.read_text()
    for number in ("3", "5"):
        info.write_text(text.replace('"4"', f'"{number}"'))
        with pytest.raises(
            ValueError,
            match=rf"{tmp_path}/tiny.*expected {number} examples, got 4",
        ):
            load_dataset("tiny", data_dir=tmp_path)


def test_colours_are_not_dropped(tmp_path):
    prepare(tmp_path, {"image": tfds.features.Image(shape=(2, 3, 3)), "label": CLASS})
    features = tmp_path / "tiny" / "1.0.0" / "features.json"
    coloured = {"image": encode(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))}
    prepare(tmp_path / "colour", rows=[coloured | {"label": 3}])
    other = tmp_path / "colour" / "tiny" / "1.0.0" / "features.json"
    assert load_dataset("tiny", data_dir=tmp_path / "colour").test.images.ndim == 4
    for path in (features, other):
        channels = path.read_text().rpartition('"3"')
        path.write_text(f'{channels[0]}"1"{channels[2]}')
    # Equal channels lose nothing.
    assert load_dataset("tiny", data_dir=tmp_path).test.images.shape[-1] == 1
    with pytest.raises(ValueError, match="colour image, where features"):
        load_dataset("tiny", data_dir=tmp_path / "colour")


def test_numbers_that_no_test_image_confirms_are_noticed(tmp_path, caplog):
    fields = {"image": tfds.features.Image(shape=(2, 3, 1)), "label": CLASS}
    rows = [{"image": encode(make_image(i, (2, 3))), "label": i} for i in range(4)]
    prepare(tmp_path, fields, rows=rows)
    assert load_dataset("tiny", data_dir=tmp_path).num_classes == 4
    assert not caplog.messages
    features = tmp_path / "tiny" / "1.0.0" / "features.json"
    text = features.read_text().replace('"4"', '"6"')
    features.write_text(text.replace('"1"', '"3"'))
    assert load_dataset("tiny", data_dir=tmp_path).num_classes == 6
    assert "6 classes, but no test image of a class above 3." in caplog.text
    assert "3 channels, but all test images are grey." in caplog.text


def test_digests_of_splits(tmp_path, monkeypatch):
    prepare(tmp_path)
    train = load_dataset("tiny", data_dir=tmp_path).train
    assert train.digest == Split(train.images, train.labels).digest
    assert train.take(3).digest == Split(train.images[:3], train.labels[:3]).digest
    # Of a split that is too large to read, some images count.
    monkeypatch.setattr(tfds_source, "_MOST_DIGESTED", 2 * 2 * 3 * 3)
    streamed = load_dataset("tiny", data_dir=tmp_path).train
    ends = Split(train.images[[0, 3]], train.labels[[0, 3]])
    assert streamed.digest != train.digest
    assert streamed.digest == digest_rows(train, 2) != ends.digest
    assert "_whole" not in vars(streamed)


def test_jpeg_and_grey_files_become_the_promised_channels(tmp_path):
    grey = np.full((2, 3), 77, np.uint8)
    rows = [
        {"image": encode(make_image(4), "JPEG"), "label": 1},
        {"image": encode(grey), "label": 2},
    ]
    prepare(tmp_path, rows=rows)
    train = load_dataset("tiny", data_dir=tmp_path).train
    images = dict(zip(train.labels.tolist(), train.images, strict=True))
    np.testing.assert_array_equal(images[1], make_image(4))
    np.testing.assert_array_equal(images[2], np.full((2, 3, 3), 77))


def test_images_of_several_sizes(tmp_path):
    fields = {"image": tfds.features.Image(shape=(None, None, 3)), "label": CLASS}
    shapes = [(2, 3, 3), (2, 3, 3), (4, 3, 3)]
    rows = [{"image": encode(make_image(1, s)), "label": 0} for s in shapes]
    prepare(tmp_path, fields, rows=rows)
    with pytest.raises(
        ValueError, match=r"tiny test images must be of one size.*for image 0 and \["
    ):
        load_dataset("tiny", data_dir=tmp_path)
    prepare(tmp_path / "same", fields, rows=rows[:2])
    same = load_dataset("tiny", data_dir=tmp_path / "same")
    assert same.train.images.shape == (2, 2, 3, 3)


def test_training_images_are_read_and_checked_when_they_are_used(tmp_path):
    shapes = [(2, 3, 3), (2, 3, 3), (4, 3, 3)]
    rows = [{"image": encode(make_image(1, s)), "label": 0} for s in shapes]
    Tiny(
        fields={"image": tfds.features.Image(shape=(None, None, 3)), "label": CLASS},
        splits={"train": rows, "test": rows[:1]},
        data_dir=tmp_path,
    ).download_and_prepare()
    train = load_dataset("tiny", data_dir=tmp_path).train
    assert (len(train), train.image_shape, train.dtype) == (3, (2, 3, 3), np.uint8)
    assert train.num_bytes == 3 * 2 * 3 * 3
    assert repr(train) == "<TfdsSplit tiny train, 3 images>"
    # TFDS has shuffled them: the large one is wherever reading it fails.
    fails = [i for i in range(3) if not reads(train, i)]
    assert len(fails) == 1
    with pytest.raises(ValueError, match=f"one size.*image 0 .*for image {fails[0]}"):
        train.labels.sum()


def reads(split, row):
    try:
        images, labels = split.rows(np.array([row]))
    except ValueError:
        return False
    return images.shape == (1, 2, 3, 3) and labels.tolist() == [0]


def test_rows_and_beginnings_are_those_of_the_whole(tmp_path):
    prepare(tmp_path)
    train = load_dataset("tiny", data_dir=tmp_path).train
    wanted = np.array([3, 0, 3])
    before = train.rows(wanted), train.take(2).images
    images, labels = train.images, train.labels
    assert train.images is images
    after = train.rows(wanted), train.take(2).images
    for (some, classes), beginning in (before, after):
        np.testing.assert_array_equal(some, images[wanted])
        np.testing.assert_array_equal(classes, labels[wanted])
        np.testing.assert_array_equal(beginning, images[:2])
    with pytest.raises(ValueError, match="`num_images` must be from 1 to 4"):
        train.take(5)


def test_supervised_keys_choose_among_several_labels(tmp_path):
    fields = {"image": IMAGE, "fine": CLASS, "coarse": CLASS}
    rows = [{"image": encode(make_image(0)), "fine": 3, "coarse": 1}]
    prepare(tmp_path / "a", fields, rows=rows, keys=("image", "fine"))
    assert load_dataset("tiny", data_dir=tmp_path / "a").test.labels.tolist() == [3]
    prepare(tmp_path / "b", fields, rows=rows)
    with pytest.raises(ValueError, match="one Image and one ClassLabel"):
        load_dataset("tiny", data_dir=tmp_path / "b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": IMAGE, "label": tfds.features.Text()}, "not an image-classif"),
        ({"text": tfds.features.Text(), "label": CLASS}, "not an image-classif"),
        (
            {"image": tfds.features.Image(shape=(2, 3, 2)), "label": CLASS},
            "uint8 images with 1, 3 or 4 channels",
        ),
        (
            {"image": tfds.features.Image(shape=(2, 3, 1), dtype=np.uint16)}
            | {"label": CLASS},
            "uint8 images with 1, 3 or 4 channels",
        ),
    ],
)
def test_not_image_classification(tmp_path, fields, message):
    value = {"image": encode(make_image(0)), "text": "a", "label": "a"}
    if fields["label"] is CLASS:
        value["label"] = 0
    prepare(tmp_path, fields, rows=[{key: value[key] for key in fields}])
    with pytest.raises(ValueError, match=message):
        load_dataset("tiny", data_dir=tmp_path)


def test_prepared_in_another_format(tmp_path):
    prepare(tmp_path)
    info = tmp_path / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(
        ValueError, match=r"prepared as array_record, got tfrecord in .* another `data_"
    ):
        load_dataset("tiny", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", r"Unknown data set 'minst'. Did you mean 'mnist'.*digits, npz:PATH"),
        ("Digits", "Unknown data set 'Digits'.*fashion_mnist, cifar10, cifar100"),
        ("", "Unknown data set ''.*TensorFlow Datasets"),
        ("kaggle:foo", "Unknown data set 'kaggle:foo'"),
        ("../mnist", "Unknown data set"),
        ("mnist/nope", "Unknown config or version in 'mnist/nope'.*BuilderConfig nope"),
        ("mnist:9.9.9", "Unknown config or version in 'mnist:9.9.9'.*only: 3.0.1"),
        ("mnist:latest", "Unknown config or version in 'mnist:latest'"),
    ],
)
def test_unknown_names(name, message, tmp_path):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_dataset(name, data_dir=tmp_path)


def load_real(name, version):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder:
        pytest.skip(f"TFDS_DATA_DIR is not set, so there is no {name} to read")
    if not pathlib.Path(folder, name, version, "dataset_info.json").exists():
        pytest.skip(f"{name} is not prepared in {folder}")
    return load_dataset(name)


def test_real_mnist():
    mnist = load_real("mnist", "3.0.1")
    assert mnist.train.images.shape == (60000, 28, 28, 1)
    assert mnist.test.images.shape == (10000, 28, 28, 1)
    assert mnist.train.images.dtype == np.uint8
    assert np.bincount(mnist.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert np.bincount(mnist.train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert abs(mnist.train.images.mean() / 255 - 0.1307) < 1e-4  # known to 4 digits


@pytest.mark.slow
def test_real_cifar10():
    cifar = load_real("cifar10", "3.0.2")
    assert cifar.train.images.shape == (50000, 32, 32, 3)
    assert cifar.test.images.shape == (10000, 32, 32, 3)
    assert np.bincount(cifar.train.labels).tolist() == [5000] * 10
    assert np.bincount(cifar.test.labels).tolist() == [1000] * 10
    means = cifar.train.images.mean(axis=(0, 1, 2)) / 255
    assert np.abs(means - [0.4914, 0.4822, 0.4465]).max() < 1e-4  # known to 4 digits
