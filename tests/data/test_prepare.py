"""Test preparation without TensorFlow, from tiny fake originals."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds

from advgan_jax.data import _originals as originals
from advgan_jax.data import _prepare as prepare
from advgan_jax.data import load_dataset, prepare_dataset

NAMES = tuple(prepare.WITHOUT_TENSORFLOW)
NUM_TRAIN, NUM_TEST = 25, 11


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_mnist(folder, splits):
    for (images, labels), prefix in zip(splits, ("train", "t10k"), strict=True):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images[..., 0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))


def write_cifar(folder, splits, *, num_classes):
    """Records as in CIFAR's description; the training images in uneven files."""
    coarse = num_classes == 100
    names = (
        ["train.bin", "test.bin"]
        if coarse
        else [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    )
    records = []
    for images, labels in splits:
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        columns = [labels // 5, labels] if coarse else [labels]
        records.append(np.column_stack([*columns, planes]).astype(np.uint8))
    files = dict(
        zip(
            names,
            [*np.array_split(records[0], len(names) - 1), records[1]],
            strict=True,
        )
    )
    texts = {"batches.meta.txt": 10, "coarse_label_names.txt": 20}
    texts |= {"fine_label_names.txt": 100}
    archive = folder / f"cifar-{num_classes}-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, count in texts.items():
            files[name] = "\n".join(f"class_{i}" for i in range(count)).encode()
        for name, content in sorted(files.items(), reverse=True):
            data = bytes(content) if isinstance(content, bytes) else content.tobytes()
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def make_splits(name):
    shape = (32, 32, 3) if "cifar" in name else (28, 28, 1)
    rng = np.random.default_rng(0)
    num_classes = 100 if name == "cifar100" else 10
    return [
        (
            rng.integers(0, 256, (count, *shape), dtype=np.uint8),
            rng.integers(0, num_classes, count),
        )
        for count in (NUM_TRAIN, NUM_TEST)
    ]


def publish(name, folder, monkeypatch, url="http://localhost:9"):
    """Let TFDS expect the checksums of the files in `folder`."""
    infos = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        infos[f"{url}/{path.name}"] = tfds.download.checksums.UrlInfo(
            size=len(data),
            checksum=hashlib.sha256(data).hexdigest(),
            filename=path.name,
        )
    monkeypatch.setattr(originals.BUILDERS[name], "url_infos", infos)


def write_originals(name, folder, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    splits = make_splits(name)
    if "cifar" in name:
        write_cifar(folder, splits, num_classes=100 if name == "cifar100" else 10)
    else:
        write_mnist(folder, splits)
    publish(name, folder, monkeypatch)
    return splits


def as_rows(images, labels):
    return sorted(
        (*image.ravel().tolist(), int(label))
        for image, label in zip(images, labels, strict=True)
    )


def refuse_network(url, seconds=0.0):
    raise AssertionError(f"asked for {url}")


@pytest.mark.parametrize("name", NAMES)
def test_from_original_files(name, tmp_path, monkeypatch):
    splits = write_originals(name, tmp_path / "downloads" / "manual", monkeypatch)
    monkeypatch.setattr(prepare, "can_reach", refuse_network)
    loaded = load_dataset(name, data_dir=tmp_path)
    assert loaded.num_classes == (100 if name == "cifar100" else 10)
    for split, (images, labels) in zip(
        (loaded.train, loaded.test), splits, strict=True
    ):
        assert split.images.dtype == np.uint8
        assert as_rows(split.images, split.labels) == as_rows(images, labels)

    # What is found again is what TFDS itself would find, under its own name.
    monkeypatch.setitem(originals.BUILDERS, name, None)
    again = load_dataset(name, data_dir=tmp_path)
    np.testing.assert_array_equal(again.train.images, loaded.train.images)
    source = tfds.data_source(
        name,
        split="test",
        data_dir=tmp_path,
        download=False,
        builder_kwargs={"file_format": "array_record"},
    )
    np.testing.assert_array_equal(
        [example["image"] for example in source], loaded.test.images
    )


@pytest.mark.parametrize("name", NAMES)
def test_builders_match_those_of_tfds(name, tmp_path):
    ours, theirs = originals.BUILDERS[name](data_dir=tmp_path), tfds.builder(name)
    assert type(theirs) is not type(ours)
    assert str(ours.version) == str(theirs.version)
    assert repr(ours.info.features) == repr(theirs.info.features)
    assert ours.url_infos == theirs.url_infos
    assert ours.name == name


def test_manual_dir_as_an_argument(tmp_path, monkeypatch):
    write_originals("mnist", tmp_path / "files", monkeypatch)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    prepare_dataset("mnist", manual_dir=tmp_path / "files")
    assert len(load_dataset("mnist").train) == NUM_TRAIN
    monkeypatch.setitem(originals.BUILDERS, "mnist", None)
    with pytest.raises(TypeError):  # the builder was taken away: it was wanted again
        prepare_dataset("mnist", data_dir=tmp_path / "other")


def test_prepared_sets_do_not_change(tmp_path, monkeypatch):
    write_originals("mnist", tmp_path / "downloads" / "manual", monkeypatch)
    prepare_dataset("mnist", data_dir=tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "mnist").rglob("*")}
    prepare_dataset("mnist", data_dir=tmp_path)
    load_dataset("mnist", data_dir=tmp_path)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "mnist").rglob("*")}
    assert before == after


def test_a_set_in_another_format_is_not_overwritten(tmp_path, monkeypatch):
    write_originals("mnist", tmp_path / "downloads" / "manual", monkeypatch)
    prepare_dataset("mnist", data_dir=tmp_path)
    info = tmp_path / "mnist" / "3.0.1" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    before = sorted((tmp_path / "mnist").rglob("*"))
    with pytest.raises(ValueError, match="already set to"):  # TFDS' own words
        prepare_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(ValueError, match="must be prepared as array_record"):
        load_dataset("mnist", data_dir=tmp_path)
    assert sorted((tmp_path / "mnist").rglob("*")) == before


def test_wrong_file(tmp_path, monkeypatch):
    manual = tmp_path / "downloads" / "manual"
    write_originals("mnist", manual, monkeypatch)
    (manual / "t10k-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(Exception, match=r"(?s)t10k-labels.*wrong checksum"):
        load_dataset("mnist", data_dir=tmp_path)
    assert not list(tmp_path.rglob("*array_record*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_interrupted_preparation_removes_its_files(error, tmp_path, monkeypatch):
    write_originals("mnist", tmp_path / "downloads" / "manual", monkeypatch)
    encode, calls = originals.encode_png, []

    def fail_late(image):
        calls.append(image)
        if len(calls) > NUM_TRAIN + 3:
            raise error
        return encode(image)

    with monkeypatch.context() as patch:
        patch.setattr(originals, "encode_png", fail_late)
        with pytest.raises((KeyboardInterrupt, OSError)):
            load_dataset("mnist", data_dir=tmp_path)
    assert not list((tmp_path / "mnist").iterdir())
    assert len(load_dataset("mnist", data_dir=tmp_path).test) == NUM_TEST


def test_download_from_a_host(tmp_path, monkeypatch):
    write_originals("cifar10", tmp_path / "site", monkeypatch)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            del args

    handler = functools.partial(Handler, directory=tmp_path / "site")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        publish("cifar10", tmp_path / "site", monkeypatch, url)
        loaded = load_dataset("cifar10", data_dir=tmp_path / "data")
        server.shutdown()
    assert len(loaded.train) == NUM_TRAIN

    # A second preparation reuses the downloads.
    monkeypatch.setattr(prepare, "can_reach", refuse_network)
    for path in (tmp_path / "data" / "cifar10").rglob("*.json"):
        path.unlink()
    (tmp_path / "data" / "cifar10").rename(tmp_path / "aside")
    assert len(load_dataset("cifar10", data_dir=tmp_path / "data").test) == NUM_TEST


def test_no_network_is_an_error_within_seconds(tmp_path, monkeypatch):
    manual = tmp_path / "downloads" / "manual"
    write_originals("mnist", manual, monkeypatch)
    (manual / "train-images-idx3-ubyte.gz").unlink()
    monkeypatch.setenv("NO_PROXY", "localhost")
    start = time.monotonic()
    with pytest.raises(ConnectionError) as caught:  # port 9 of localhost is closed
        load_dataset("mnist", data_dir=tmp_path)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    for part in (
        "'mnist' is not prepared in",
        "localhost:9 cannot be reached",
        "Missing: train-images-idx3-ubyte.gz.",
        f"original files into {manual}",
        "TFDS_DATA_DIR",
        "`digits`",
    ):
        assert part in message
    assert not (tmp_path / "mnist").exists()


def test_a_silent_host_costs_little_time(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        start = time.monotonic()
        assert not prepare.can_reach(url, seconds=0.3)
        assert time.monotonic() - start < 2


def test_slow_name_resolution_costs_little_time(monkeypatch):
    """No time limit of a request covers it."""
    gave_up = threading.Event()

    def resolve(*_, **__):
        gave_up.wait(5)
        raise requests.ConnectionError

    monkeypatch.setattr(prepare.requests, "head", resolve)
    start = time.monotonic()
    assert not prepare.can_reach("http://host", seconds=0.1)
    assert time.monotonic() - start < 2
    gave_up.set()


def test_other_sets_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        load_dataset("svhn_cropped", data_dir=tmp_path)
    message = str(caught.value)
    assert "pip install importlib_resources tensorflow-cpu" in message
    code = shlex.split(message.partition("python -c ")[2])[0]
    wanted = f'builder("svhn_cropped", data_dir="{tmp_path}", file_format="array_record'
    assert wanted in code
    compile(code, "command", "exec")


def test_tfds_prepares_other_sets_with_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(prepare, "can_reach", lambda _: False)
    with pytest.raises(ConnectionError, match=r"extra_32x32.mat, test_32x32.mat"):
        load_dataset("svhn_cropped", data_dir=tmp_path)
    monkeypatch.setattr(prepare, "can_reach", lambda _: True)
    asked = []
    monkeypatch.setattr(
        tfds.core.DatasetBuilder,
        "download_and_prepare",
        lambda builder, **_: asked.append(builder.info.file_format.value),
    )
    prepare_dataset("svhn_cropped", data_dir=tmp_path)
    assert asked == ["array_record"]


def test_idx_reader_rejects_other_files(tmp_path):
    path = tmp_path / "a.gz"
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write_idx(path, array)
    np.testing.assert_array_equal(originals.read_idx(path), array)
    whole = gzip.decompress(path.read_bytes())
    for data, message in (
        (b"", "IDX file of bytes"),
        (b"\0\0\x0d" + whole[3:], "IDX file of bytes"),
        (whole[:7], "IDX file of bytes"),
        (whole[:-1], r"expected 6 bytes for shape \[2, 3\], got 5"),
    ):
        path.write_bytes(gzip.compress(data))
        with pytest.raises(ValueError, match=message):
            originals.read_idx(path)


def test_cifar_reader_rejects_an_incomplete_file():
    with pytest.raises(ValueError, match="records of 3073 bytes, got 3000"):
        originals.read_cifar(bytes(3000), num_labels=1)


def test_real_originals(tmp_path, monkeypatch):
    """The true t10k files, checked against TFDS' checksums, in TFDS' own order."""
    folder = os.environ.get("ADVGAN_MNIST_ORIGINALS")
    if not folder:
        pytest.skip("ADVGAN_MNIST_ORIGINALS names no folder with t10k-*.gz")
    files = [f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    known = {i.filename: i.checksum for i in originals.Mnist.url_infos.values()}
    (tmp_path / "manual").mkdir()
    for file in files:
        data = pathlib.Path(folder, file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == known[file]
        for copy in (file, file.replace("t10k", "train")):
            (tmp_path / "manual" / copy).write_bytes(data)
    publish("mnist", tmp_path / "manual", monkeypatch)
    prepare_dataset("mnist", data_dir=tmp_path, manual_dir=tmp_path / "manual")
    ours = load_dataset("mnist", data_dir=tmp_path).test
    assert np.bincount(ours.labels)[:2].tolist() == [980, 1135]
    if not prepare.is_prepared(
        tfds.builder("mnist", data_dir=prepare.resolve_data_dir())
    ):
        pytest.skip("TFDS' own MNIST, to compare with, is not prepared")
    theirs = load_dataset("mnist").test
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_tensorflow_is_never_imported(tmp_path, monkeypatch):
    write_originals("mnist", tmp_path / "downloads" / "manual", monkeypatch)
    prepare_dataset("mnist", data_dir=tmp_path)
    code = (
        "import sys; from advgan_jax.data import load_dataset; load_dataset('digits');"
        "assert 'tensorflow_datasets' not in sys.modules;"
        f"load_dataset('mnist', data_dir={str(tmp_path)!r});"
        "from advgan_jax.data import _originals;"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
