"""Build MNIST, Fashion-MNIST and CIFAR without TensorFlow.

The builders derive from those of TensorFlow Datasets and replace only the reading of
files and the PNG encoding. Both libraries can therefore read the same prepared set.
"""

import gzip
import io
import math
import os
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image
from tensorflow_datasets import image_classification as sets

_IDX = ("{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz")
_IDX_UINT8 = 0x08
_Path = str | os.PathLike[str]
Examples = Iterator[tuple[int, dict[str, Any]]]
_PIXELS = 32 * 32 * 3  # of a CIFAR image, stored as three planes


class Mnist(sets.MNIST, skip_registration=True):
    """MNIST from its four IDX files."""

    name = "mnist"
    # From the parent: TFDS looks for checksums next to the file of the class.
    url_infos: Any = sets.MNIST.url_infos

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        urls = {info.filename: url for url, info in self.url_infos.items()}
        paths = dl_manager.download(urls)
        return {
            split: self._generate_examples(*(paths[n.format(prefix)] for n in _IDX))
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(self, images_path: _Path, labels_path: _Path) -> Examples:
        images, labels = read_idx(images_path), read_idx(labels_path)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": encode_png(image), "label": int(label)}


class FashionMnist(Mnist, sets.FashionMNIST, skip_registration=True):
    """Fashion-MNIST, in MNIST's format."""

    name = "fashion_mnist"
    url_infos: Any = sets.FashionMNIST.url_infos


class Cifar10(sets.Cifar10, skip_registration=True):
    """CIFAR-10 from its archive of binary files."""

    name = "cifar10"
    url_infos: Any = sets.Cifar10.url_infos

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        (url,) = self.url_infos
        files, info = read_archive(dl_manager.download(url)), self._cifar_info
        features: Any = self.info.features
        for key, file in zip(info.label_keys, info.label_files, strict=True):
            features[key].names = files[file].decode().split()
        return {
            "train": self._generate_examples("train_", info.train_files, files),
            "test": self._generate_examples("test_", info.test_files, files),
        }

    def _generate_examples(
        self, prefix: str, names: list[str], files: Mapping[str, bytes]
    ) -> Examples:
        keys = self._cifar_info.label_keys
        records = b"".join(files[name] for name in names)
        images, labels = read_cifar(records, num_labels=len(keys))
        for i, (image, ids) in enumerate(zip(images, labels, strict=True)):
            example = {"id": f"{prefix}{i:05d}", "image": encode_png(image)}
            yield i, example | dict(zip(keys, ids.tolist(), strict=True))


class Cifar100(Cifar10, sets.Cifar100, skip_registration=True):
    """CIFAR-100, with the fine label as `label`."""

    name = "cifar100"
    url_infos: Any = sets.Cifar100.url_infos


BUILDERS = {cls.name: cls for cls in (Mnist, FashionMnist, Cifar10, Cifar100)}


def read_idx(path: _Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes; `ValueError` for any other file."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    rank = data[3] if len(data) > 3 else 0
    start = 4 + 4 * rank
    if data[:3] != bytes((0, 0, _IDX_UINT8)) or len(data) < start:
        raise ValueError(f"expected an IDX file of bytes, got {data[:4]!r}: {path}")
    shape = np.frombuffer(data, ">u4", count=rank, offset=4).tolist()
    if len(data) - start != math.prod(shape):
        raise ValueError(
            f"expected {math.prod(shape)} bytes for shape {shape}, got "
            f"{len(data) - start}: {path}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_archive(path: _Path) -> dict[str, bytes]:
    """Read all files of a tar.gz in one pass, and key them by name without folder."""
    contents = {}
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                contents[os.path.basename(member.name)] = file.read()
    return contents


def read_cifar(records: bytes, *, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode CIFAR's records into uint8 `[N, 32, 32, 3]` and `[N, num_labels]`.

    A record has `num_labels` bytes and three planes; `ValueError` for other lengths.
    """
    size = num_labels + _PIXELS
    if len(records) % size:
        got = f"{len(records)} bytes in all"
        raise ValueError(f"expected records of {size} bytes, got {got}.")
    table = np.frombuffer(records, np.uint8).reshape(-1, size)
    planes = table[:, num_labels:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), table[:, :num_labels]


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image, uint8 `[H, W]` or `[H, W, 3]`, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
