"""The original files of MNIST, Fashion-MNIST and CIFAR, read without TensorFlow.

The builders here are TensorFlow Datasets' own, with the same names, versions, features,
checksums and order of examples; only the reading and the PNG encoding are exchanged.
So a set prepared here and one prepared by TensorFlow Datasets can stand for each other.

Importing this module imports TensorFlow Datasets.
"""

import gzip
import io
import math
import os
import tarfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_IDX_UINT8 = 0x08
_PIXELS = 32 * 32 * 3  # of a CIFAR image, stored as three planes


class Mnist(tfds.image_classification.MNIST, skip_registration=True):
    """MNIST from its four IDX files."""

    name = "mnist"
    # Of the parent: TFDS looks for checksums beside the file of the class.
    url_infos = tfds.image_classification.MNIST.url_infos

    def _split_generators(self, dl_manager):
        urls = {info.filename: url for url, info in self.url_infos.items()}
        paths = dl_manager.download(urls)
        return {
            split: self._generate_examples(
                paths[f"{prefix}-images-idx3-ubyte.gz"],
                paths[f"{prefix}-labels-idx1-ubyte.gz"],
            )
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(self, images_path, labels_path):
        images, labels = read_idx(images_path), read_idx(labels_path)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": encode_png(image), "label": int(label)}


class FashionMnist(
    Mnist, tfds.image_classification.FashionMNIST, skip_registration=True
):
    """Fashion-MNIST, in MNIST's format."""

    name = "fashion_mnist"
    url_infos = tfds.image_classification.FashionMNIST.url_infos


class Cifar10(tfds.image_classification.Cifar10, skip_registration=True):
    """CIFAR-10 from its archive of binary files."""

    name = "cifar10"
    url_infos = tfds.image_classification.Cifar10.url_infos

    def _split_generators(self, dl_manager):
        (url,) = self.url_infos
        files, info = read_archive(dl_manager.download(url)), self._cifar_info
        for key, file in zip(info.label_keys, info.label_files, strict=True):
            self.info.features[key].names = files[file].decode().split()
        return {
            "train": self._generate_examples("train_", info.train_files, files),
            "test": self._generate_examples("test_", info.test_files, files),
        }

    def _generate_examples(self, prefix, names, files):
        keys = self._cifar_info.label_keys
        records = b"".join(files[name] for name in names)
        images, labels = read_cifar(records, num_labels=len(keys))
        for i, (image, ids) in enumerate(zip(images, labels, strict=True)):
            example = {"id": f"{prefix}{i:05d}", "image": encode_png(image)}
            yield i, example | dict(zip(keys, ids.tolist(), strict=True))


class Cifar100(Cifar10, tfds.image_classification.Cifar100, skip_registration=True):
    """CIFAR-100, with the fine label as `label`."""

    name = "cifar100"
    url_infos = tfds.image_classification.Cifar100.url_infos


BUILDERS = {cls.name: cls for cls in (Mnist, FashionMnist, Cifar10, Cifar100)}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a gzipped IDX file of bytes.

    Args:
      path: the file.

    Returns:
      uint8 array of the shape that the file's header gives.

    Raises:
      ValueError: if the header is of something else or does not fit the length.
    """
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


def read_archive(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Reads all files of a tar.gz in one pass; writes nothing to disk.

    Args:
      path: the archive.

    Returns:
      Contents by name, without the folder.
    """
    with tarfile.open(path, "r:gz") as tar:
        return {
            os.path.basename(member.name): tar.extractfile(member).read()
            for member in tar
            if member.isfile()
        }


def read_cifar(records: bytes, *, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes CIFAR's binary format.

    Args:
      records: N times `num_labels` bytes of labels, then 3 planes of 32x32.
      num_labels: 1 for CIFAR-10; 2 for CIFAR-100, the coarse label first.

    Returns:
      `(images, labels)`, uint8 `[N, 32, 32, 3]` and uint8 `[N, num_labels]`.

    Raises:
      ValueError: if the length is not a multiple of a record's.
    """
    size = num_labels + _PIXELS
    if len(records) % size:
        raise ValueError(
            f"expected records of {size} bytes, got {len(records)} bytes in all."
        )
    table = np.frombuffer(records, np.uint8).reshape(-1, size)
    planes = table[:, num_labels:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), table[:, :num_labels]


def encode_png(image: np.ndarray) -> bytes:
    """Encodes an image without loss.

    Args:
      image: uint8 `[H, W]` or `[H, W, 3]`.

    Returns:
      The PNG file.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
