"""Read a split of TensorFlow Datasets from its files row by row."""

import io
from functools import cached_property
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from advgan_jax import checks
from advgan_jax.data.dataset import Split

PIXEL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of PIL, by channels
_CHUNK = 1024  # records read at once


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
        self._set(
            _source=source,
            _keys=keys,
            _mode=PIXEL_MODES[builder.info.features[keys[0]].shape[-1]],
            _num_classes=num_classes,
            _where=f"{builder.info.name} {name}",
            _length=len(source),
        )
        self._set(_shape=self._parse(source[0])[0].shape)

    def _set(self, **attributes: Any) -> None:
        """Set attributes in spite of the frozen dataclass."""
        self.__dict__.update(attributes)

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
        first = object.__new__(StoredSplit)
        first._set(**self.__dict__)
        if "_whole" in first.__dict__:
            first._set(_whole=tuple(a[:num_images] for a in self._whole))
        first._set(_length=num_images)
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
