"""Data sets of arrays in memory, of tables, and of another library's rows."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from advgan_jax import data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 2, 3, 1), np.uint8)
LABELS = np.arange(10) % 3


def test_arrays_are_divided_by_class():
    made = data.from_arrays(IMAGES, LABELS, name="mine")
    assert (made.name, made.num_classes) == ("mine", 3)
    assert np.bincount(made.test.labels).tolist() == [1, 1, 1]
    both = np.concatenate([made.train.images, made.test.images])
    assert sorted(map(bytes, both)) == sorted(map(bytes, IMAGES))


def test_test_images_may_be_given():
    given = data.from_arrays(IMAGES, LABELS, IMAGES[:2], [3, 0])
    assert (len(given.train), given.test.labels.tolist()) == (10, [3, 0])
    assert given.num_classes == 4
    with pytest.raises(ValueError, match="must be given together"):
        data.from_arrays(IMAGES, LABELS, IMAGES)
    with pytest.raises(ValueError, match=r"train labels.* in \[0, 2\), got 2"):
        data.from_arrays(IMAGES, LABELS, num_classes=2)
    with pytest.raises(TypeError, match="one-hot"):
        data.from_arrays(IMAGES, np.eye(3)[LABELS])
    with pytest.raises(ValueError, match=r"`split` must be a share in \(0, 1\)"):
        data.from_arrays(IMAGES, LABELS, split=1)


def test_mapped_files_stay_on_the_disk(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    made = data.from_arrays(mapped, LABELS, IMAGES[:1], [0])
    assert np.shares_memory(made.train.images, mapped)


def write_table(path, rows, header=None):
    lines = [] if header is None else [",".join(header)]
    lines += [",".join(map(str, row)) for row in rows]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        file.write("\n".join(lines))
    return path


@pytest.mark.parametrize("header", [None, ("class", *(f"pixel {i}" for i in range(6)))])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_tables_of_pixels(tmp_path, header, name):
    rows = np.concatenate([LABELS[:, None], IMAGES.reshape(10, -1)], axis=1)
    path = write_table(tmp_path / name, rows, header)
    label = 0 if header is None else "class"
    table = data.load_table(path, label=label, bounds=(0, 255), shape=(2, 3, 1))
    expected = data.from_arrays(IMAGES, LABELS)
    assert table.name == f"csv:{path}"
    for ours, theirs in ((table.train, expected.train), (table.test, expected.test)):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_tables_of_other_numbers(tmp_path):
    rows = [[-1.5, 0.5, 0], [1.5, 0, 1], [0.75, 1.5, 0], [0, 0, 1]]
    path = write_table(tmp_path / "a.csv", rows, ["x", "y", "kind"])
    table = data.load_table(path, label="kind", bounds=(-1.5, 1.5), split=0.5)
    both = np.concatenate([table.train.images, table.test.images]).reshape(4, 2)
    expected = [[0, 2 / 3], [1, 0.5], [0.75, 1], [0.5, 0.5]]
    np.testing.assert_allclose(sorted(map(tuple, both)), sorted(map(tuple, expected)))
    assert table.train.image_shape == (1, 2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a table of numbers"),
        ("x,kind\n1,a\n", "must be a table of numbers.*'a'"),
        ("x,kind\n1,0\n1\n", "must be a table of numbers"),
        ("x,y,kind\n1,0\n1,1\n", "got 3 names and 2 columns"),
        ("x,sort\n1,0\n", "Unknown column of .*'kind'. .*Known: sort, x"),
        ("x,kind\n1,0.5\n", "Column 'kind' .* must have integers"),
        ("x,kind\n1,0\n2,1\n", r"within bounds \(0, 1\), got 2 in row 1, column 0"),
        ("x,kind\nnan,0\n0,1\n", r"within bounds \(0, 1\), got nan in row 0"),
        ("x,y,kind\n1,1,0\n", r"must have 1 columns beside 'kind' .*got 2"),
    ],
)
def test_damaged_tables_are_named(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        data.load_table(path, label="kind", bounds=(0, 1), shape=(1, 1, 1))
    assert "a.csv" in str(caught.value)


def test_missing_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no file"):
        data.load_table(tmp_path / "a.csv", label=0, bounds=(0, 1))


class Rows:
    """What a set of the library `datasets` shows: columns, and rows that decode."""

    column_names = ("photo", "kind")

    def __init__(self, images, labels, features=None):
        self.images, self.labels_, self.read = images, labels, []
        self.features = features or {}

    def __len__(self):
        return len(self.labels_)

    def __getitem__(self, key):
        if isinstance(key, str):
            assert key == "kind"  # the images as one column would fill the memory
            return list(self.labels_)
        assert type(key) is int
        self.read.append(key)
        return {"photo": self.images[key], "kind": self.labels_[key]}


def encoded(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.mark.parametrize(
    "convert", [lambda a: a, Image.fromarray, encoded, lambda a: (a / 255).tolist()]
)
def test_rows_of_another_library(convert, tmp_path):
    rows = Rows([convert(image[..., 0]) for image in IMAGES], LABELS.tolist())
    made = data.from_huggingface(rows, image="photo", label="kind")
    assert made.num_classes == 3
    assert made.train.image_shape == (2, 3, 1)
    rows.read.clear()
    images, labels = made.train.rows(np.array([1]))
    assert (len(rows.read), len(images)) == (1, 1)
    expected = data.from_arrays(IMAGES, LABELS)
    for ours, theirs in ((made.train, expected.train), (made.test, expected.test)):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        # Doubles / 255 and products with 1/255 round otherwise.
        found, wanted = data.to_float(ours.images), data.to_float(theirs.images)
        np.testing.assert_allclose(found, wanted, atol=2**-24)
    assert labels.tolist() == made.train.labels[[1]].tolist()


def test_splits_of_another_library():
    class Declared:
        num_classes = 7

    rows = Rows(list(IMAGES[..., 0]), LABELS.tolist(), {"kind": Declared()})
    parts = {"train": rows, "validation": Rows(list(IMAGES[:2, ..., 0]), [2, 1])}
    made = data.from_huggingface(parts, image="photo", label="kind")
    assert (len(made.train), len(made.test), made.num_classes) == (10, 2, 7)
    plain = [{"x": image, "y": int(y)} for image, y in zip(IMAGES, LABELS, strict=True)]
    assert len(data.from_huggingface(plain, image="x", label="y").train) == 7


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        ({"train": []}, {}, ValueError, r"splits 'train' and 'test' .*got \['train'\]"),
        (iter([]), {}, TypeError, "streaming=False"),
        ([], {}, ValueError, "at least one row"),
        (Rows(IMAGES, LABELS), {"image": "foto"}, ValueError, "Did you mean 'photo'"),
        (Rows(IMAGES, ["a"] * 10), {}, TypeError, "class_encode_column"),
        (Rows(IMAGES, LABELS - 1), {}, ValueError, r"labels.* in \[0, 2\), got -1"),
        (Rows(IMAGES[:, 0], LABELS), {"size": (2, 2)}, ValueError, "omit"),
        (Rows([IMAGES[0]] * 9 + [IMAGES[0, 1:]], LABELS), {}, ValueError, "one size"),
        (Rows(IMAGES.astype(int), LABELS), {}, TypeError, "uint8 or floating"),
        (Rows(IMAGES / 2.0, LABELS), {}, ValueError, "Image .* must lie within bounds"),
        (Rows(IMAGES[0, 0], LABELS), {}, ValueError, r"must have shape \[H, W, C\]"),
    ],
)
def test_unusable_rows(dataset, options, error, message):
    options = {"image": "photo", "label": "kind", **options}

    def read():
        made = data.from_huggingface(dataset, **options)
        return made.train.images, made.test.images

    with pytest.raises(error, match=message):
        read()
