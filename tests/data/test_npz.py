"""Test the arrays of a user in an npz file."""

import numpy as np
import pytest

from advgan_jax.data import load_dataset

KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def make_arrays():
    images = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
    return dict(zip(KEYS, (images, np.arange(5), images[:2], [1, 0]), strict=True))


def save(folder, **changes):
    arrays = make_arrays() | changes
    path = folder / "mine.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return f"npz:{path}"


def test_arrays_come_back(tmp_path):
    name = save(tmp_path)
    mine = load_dataset(name)
    assert (mine.name, mine.num_classes) == (name, 5)
    assert mine.train.images.shape == (5, 3, 4, 1)
    assert mine.train.images.ravel().tolist() == list(range(60))
    assert mine.test.labels.tolist() == [1, 0]


def test_keras_names_and_columns_of_labels(tmp_path):
    keras = ("x_train", "y_train", "x_test", "y_test")
    arrays = dict(zip(keras, make_arrays().values(), strict=True))
    arrays["y_train"] = arrays["y_train"][:, None]
    np.savez(tmp_path / "keras.npz", **arrays)
    mine = load_dataset(f"npz:{tmp_path}/keras.npz")
    assert mine.train.labels.tolist() == [0, 1, 2, 3, 4]


def test_path_is_relative_to_the_folder(tmp_path, monkeypatch):
    save(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_dataset("npz:mine.npz").num_classes == 5


def test_num_classes_may_be_declared(tmp_path):
    assert load_dataset(save(tmp_path, num_classes=7)).num_classes == 7
    with pytest.raises(ValueError, match=r"in \[0, 3\), got 3 at index 3"):
        load_dataset(save(tmp_path, num_classes=3))
    with pytest.raises(ValueError, match=r"one integer, got float64\[\]"):
        load_dataset(save(tmp_path, num_classes=5.0))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="npz:PATH` is relative"):
        load_dataset(f"npz:{tmp_path}/nothing.npz")
    with pytest.raises(FileNotFoundError, match="expected an npz file"):
        load_dataset("npz:")


def test_not_an_npz_file(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"a\.npz must be a complete npz file.*savez`"):
        load_dataset(f"npz:{tmp_path}/a.npz")


def test_the_digest_is_that_of_the_arrays(tmp_path):
    whole = load_dataset(save(tmp_path))
    (tmp_path / "moved").mkdir()
    moved = load_dataset(save(tmp_path / "moved"))
    assert moved.digest == whole.digest
    images = make_arrays()["train_images"].copy()
    images[4, 2, 3] ^= 1
    train, test, classes = load_dataset(save(tmp_path, train_images=images)).digest
    assert [train != whole.digest[0], test, classes] == [True, *whole.digest[1:]]
    other = load_dataset(save(tmp_path, test_labels=[1, 2]))
    assert other.digest[1] != whole.digest[1]
    assert load_dataset(save(tmp_path, num_classes=7)).digest[2] == 7


def test_missing_keys(tmp_path):
    name = save(tmp_path, test_images=None, other=[1])
    with pytest.raises(
        ValueError, match="missing: test_images, found: other, test_labels, train_i"
    ):
        load_dataset(name)


def test_pickles_are_never_loaded(tmp_path):
    name = save(tmp_path, train_images=np.array([np.zeros(2), np.zeros(3)], object))
    with pytest.raises(ValueError, match="plain arrays, found Python objects"):
        load_dataset(name)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.eye(5), TypeError, "train labels.*one-hot"),
        (np.eye(5, dtype=int), ValueError, "train labels.*one-hot"),
        (np.full(5, np.nan), TypeError, "train labels"),
        (np.array(list("abcde")), TypeError, "train labels"),
        (np.zeros(0, int), ValueError, r"train labels.*shape \(5,\)"),
        (np.zeros(4, int), ValueError, r"train labels.*shape \(5,\)"),
    ],
)
def test_bad_labels_are_named(tmp_path, labels, error, message):
    with pytest.raises(error, match=message):
        load_dataset(save(tmp_path, train_labels=labels))
