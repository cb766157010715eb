"""Read image-classification sets of TensorFlow Datasets (TFDS) without TensorFlow.

Rows keep the order of TFDS, which shuffles once by a hash of each example's key.
"""

import copy
import difflib
import io
import os
import pathlib
import re
from functools import cached_property
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from advgan_jax import checks
from advgan_jax.data._prepare import (
    WITHOUT_TENSORFLOW,
    is_prepared,
    prepare_dataset,
    resolve_data_dir,
)
from advgan_jax.data.dataset import Dataset, Split

_PIXEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of PIL, by channels
_CHUNK = 1024  # records read at once


def load_tfds(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a set of TensorFlow Datasets, and prepare it first if necessary.

    Args:
      name: `name`, `name/config` or `name:version`, as in TFDS.
      data_dir: the folder of prepared sets; see `load_dataset`, also for errors.

    Returns:
      The splits `train` and `test`; `validation` replaces a missing `test`. Images are
      uint8 `[N, H, W, C]`. Training images are read when they are used.
    """
    folder = resolve_data_dir(data_dir)
    builder = _open(name, folder)
    if not is_prepared(builder):
        prepare_dataset(name, data_dir=folder)
        builder = _open(name, folder)
    formats = [kind.value for kind in builder.info.available_file_formats()]
    if "array_record" not in formats:
        raise ValueError(
            f"{name!r} must be prepared as array_record, got {', '.join(formats)} in "
            f"{builder.data_path}; prepare it in another `data_dir` (or TFDS_DATA_DIR)."
        )
    splits = list(builder.info.splits)
    tests = [split for split in ("test", "validation") if split in splits]
    if not tests or "train" not in splits:
        raise ValueError(
            f"{name!r} must have a split 'train', and 'test' or 'validation', got "
            f"{splits}; save the arrays of your own splits and use npz:PATH."
        )
    keys = _find_keys(name, builder)
    num_classes = builder.info.features[keys[1]].num_classes
    test = StoredSplit(builder, tests[0], keys, num_classes)
    train = StoredSplit(builder, "train", keys, num_classes)
    # Each process evaluates all test images, but may train on a part of the others.
    return Dataset(name, train, Split(test.images, test.labels), num_classes)


def _open(name: str, data_dir: str) -> Any:
    """Return the TFDS builder of `name`; its files need not exist."""
    import tensorflow_datasets as tfds

    base = re.split("[/:]", name)[0]
    known = tfds.list_builders(with_community_datasets=False)
    # A user's own set that was prepared elsewhere is known only by its folder.
    own = base.isidentifier() and pathlib.Path(data_dir, base).is_dir()
    if base not in known and not own:
        near = difflib.get_close_matches(base, known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"Unknown data set {name!r}.{hint} Known: digits, npz:PATH, "
            f"{', '.join(WITHOUT_TENSORFLOW)}, and every image-classification set of "
            "TensorFlow Datasets."
        )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"Unknown config or version in {name!r}; expected NAME, NAME/CONFIG or "
            f"NAME:VERSION. TensorFlow Datasets says: {str(error).strip()}"
        ) from error


def _find_keys(name: str, builder: Any) -> tuple[str, str]:
    """Return the supervised keys of image and class, or the only such features."""
    from tensorflow_datasets import features as kinds

    features = builder.info.features
    fields = dict(features) if isinstance(features, kinds.FeaturesDict) else {}
    images = [k for k, kind in fields.items() if isinstance(kind, kinds.Image)]
    labels = [k for k, kind in fields.items() if isinstance(kind, kinds.ClassLabel)]
    pair = builder.info.supervised_keys
    if not pair or pair[0] not in images or pair[-1] not in labels:
        if len(images) != 1 or len(labels) != 1:
            raise ValueError(
                f"{name!r} is not an image-classification set: expected one Image and "
                f"one ClassLabel, got {features}; save its arrays and use npz:PATH."
            )
        pair = (images[0], labels[0])
    image: Any = fields[pair[0]]
    if image.shape[-1] not in _PIXEL_MODES or image.np_dtype != np.uint8:
        raise ValueError(
            f"{name!r} must have uint8 images with 1, 3 or 4 channels, got {image}; "
            "save its arrays and use npz:PATH."
        )
    return pair[0], pair[-1]


class StoredSplit(Split):
    """A split that reads and checks rows when they are used.

    `images` or `labels` reads the whole split once and keeps it in memory.
    """

    _source: Any
    _keys: tuple[str, str]
    _mode: str
    _num_classes: int
    _where: str
    _length: int
    _shape: tuple[int, int, int]

    def __init__(
        self, builder: Any, name: str, keys: tuple[str, str], num_classes: int
    ) -> None:
        """Open split `name` of a prepared TFDS builder; `keys` name image and class."""
        from tensorflow_datasets import decode

        # Raw records: if TFDS decodes all features, reading takes 1.5 times as long and
        # warns that OpenCV is missing.
        source = builder.as_data_source(
            name,
            file_format="array_record",
            deserialize_method=decode.DeserializeMethod.RAW_BYTES,
        )
        # Not by assignment: the dataclass is frozen.
        self.__dict__.update(
            _source=source,
            _keys=keys,
            _mode=_PIXEL_MODES[builder.info.features[keys[0]].shape[-1]],
            _num_classes=num_classes,
            _where=f"{builder.info.name} {name}",
            _length=len(source),
        )
        self.__dict__.update(_shape=self._parse(source[0])[0].shape)

    def __len__(self) -> int:
        """Return N."""
        return self._length

    def __repr__(self) -> str:
        """Name the split; the `repr` of a dataclass would read all images."""
        return f"<StoredSplit {self._where}, {self._length} images>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the images: uint8."""
        return np.dtype(np.uint8)

    @cached_property
    def _whole(self) -> tuple[np.ndarray, np.ndarray]:
        return self._read(np.arange(self._length))

    @property
    def images(self) -> np.ndarray:
        """All images, uint8 `[N, H, W, C]`."""
        return self._whole[0]

    @property
    def labels(self) -> np.ndarray:
        """All classes, int32 `[N]`."""
        return self._whole[1]

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels; `ValueError` for a wrong size or label."""
        if "_whole" in self.__dict__:
            return super().rows(indices)
        return self._read(indices)

    def take(self, num_images: int) -> Split:
        """Return the first images without reading them; see `Split.take`."""
        self._check_take(num_images)
        first = copy.copy(self)
        first.__dict__.update(_length=num_images)
        if "_whole" in first.__dict__:
            first.__dict__.update(_whole=tuple(a[:num_images] for a in self._whole))
        return first

    def _read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read and check rows from the files."""
        images = np.empty((len(indices), *self._shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        shown = {"desc": f"read {self._where}", "unit": "img", "leave": False}
        # The bar is delayed: a stream reads many parts, each within seconds.
        with tqdm.tqdm(total=len(indices), delay=5, disable=None, **shown) as bar:
            for start in range(0, len(indices), _CHUNK):
                chunk = indices[start : start + _CHUNK]
                records = self._source.__getitems__(chunk.tolist())
                for i, record in enumerate(records, start):
                    image, labels[i] = self._parse(record)
                    if image.shape != self._shape:
                        raise ValueError(
                            f"{self._where} images must be of one size, got "
                            f"{list(self._shape)} for image 0 and {list(image.shape)} "
                            f"for image {indices[i]}; resize them and use npz:PATH."
                        )
                    images[i] = image
                bar.update(len(chunk))
        name = f"{self._where} labels"
        checks.check_labels(labels, len(labels), self._num_classes, name=name)
        return images, labels

    def _parse(self, record: bytes) -> tuple[np.ndarray, int]:
        """Return the image, uint8 `[H, W, C]`, and the class of an encoded example."""
        from tensorflow_datasets.proto import tf_example_pb2

        message: Any = tf_example_pb2
        feature = message.Example.FromString(record).features.feature
        encoded, label = (feature[key] for key in self._keys)
        with Image.open(io.BytesIO(encoded.bytes_list.value[0])) as image:
            pixels = image if image.mode == self._mode else image.convert(self._mode)
            array = np.frombuffer(pixels.tobytes(), np.uint8)
            shape = (image.height, image.width, len(self._mode))
        return array.reshape(shape), label.int64_list.value[0]
