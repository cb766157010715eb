"""The records of sets of TensorFlow Datasets; every fault raises an error."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image


def check_counts(split: Any) -> None:
    """Raise `ValueError` unless each file of a TFDS split has as many records as it."""
    from array_record.python import array_record_module  # pyright: ignore

    for path, expected in zip(split.filepaths, split.shard_lengths, strict=True):
        reader = array_record_module.ArrayRecordReader(str(path))
        found = reader.num_records()
        reader.close()
        if found != expected:
            raise ValueError(f"expected {expected} examples, got {found}")


def parse_example(
    record: bytes, keys: tuple[str, str], mode: str
) -> tuple[np.ndarray, int]:
    """Return image and class of an encoded example.

    Args:
      record: an encoded `tf.train.Example`.
      keys: the names of image and class.
      mode: PIL's mode of the image, with C letters.

    Returns:
      The image, uint8 `[H, W, C]`, and the class.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    example: Any = tf_example_pb2
    feature = example.Example.FromString(record).features.feature
    encoded, label = (feature[key] for key in keys)
    with Image.open(io.BytesIO(encoded.bytes_list.value[0])) as image:
        pixels = image if image.mode == mode else image.convert(mode)
        if mode == "L" != image.mode and _is_coloured(image):
            raise ValueError("a colour image, where features.json has one channel")
        array = np.frombuffer(pixels.tobytes(), np.uint8)
        shape = (image.height, image.width, len(mode))
    return array.reshape(shape), label.int64_list.value[0]


def doubts(
    builder: Any, images: np.ndarray, labels: np.ndarray, num_classes: int
) -> Iterator[str]:
    """Describe numbers of a TFDS set that its test images do not confirm.

    A set without code of its own has them only in a file without a checksum.
    """
    from tensorflow_datasets.core import read_only_builder

    if not isinstance(builder, read_only_builder.ReadOnlyBuilder):
        return
    greatest = int(labels.max())
    if greatest + 1 < num_classes:
        yield f"{num_classes} classes, but no test image of a class above {greatest}."
    channels = images.shape[-1]
    if channels > 1 and not _have_colours(images):
        yield f"{channels} channels, but all test images are grey."


def _is_coloured(image: Image.Image) -> bool:
    return _have_colours(np.asarray(image.convert("RGB")))


def _have_colours(pixels: np.ndarray) -> bool:
    return bool((pixels[..., :3] != pixels[..., :1]).any())
