"""A split of TensorFlow Datasets that stays in its files until rows are asked for."""

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
    """A split whose rows are read by random access, when they are asked for.

    What is read is checked then: sizes, and labels. All of `images` or `labels` at once
    reads the whole split, and keeps it.
    """

    def __init__(
        self,
        builder: Any,
        name: str,
        *,
        image_key: str,
        label_key: str,
        num_classes: int,
    ):
        """Opens the files, and reads the first record.

        Args:
          builder: of TFDS, prepared as array_record.
          name: of the split.
          image_key: the feature that has the images, encoded.
          label_key: the feature that has the classes.
          num_classes: K.
        """
        from tensorflow_datasets import decode

        # Raw records: TFDS' own decoding of every feature takes half as long again, and
        # warns that OpenCV is missing.
        source = builder.as_data_source(
            name,
            file_format="array_record",
            deserialize_method=decode.DeserializeMethod.RAW_BYTES,
        )
        channels = builder.info.features[image_key].shape[-1]
        self._set(
            _source=source,
            _keys=(image_key, label_key),
            _mode=PIXEL_MODES[channels],
            _num_classes=num_classes,
            _where=f"{builder.info.name} {name}",
            _length=len(source),
        )
        self._set(_shape=self._parse(source[0])[0].shape)

    def _set(self, **attributes: Any) -> None:
        # As in every split, attributes are not assigned to.
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        # That of a split shows its arrays, which would read them all.
        return f"<StoredSplit {self._where}, {self._length} images>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Of the images: uint8."""
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
        """Some images with their classes, read now unless all have been read.

        Args:
          indices: int `[n]`, from 0 to N - 1.

        Returns:
          Images uint8 `[n, H, W, C]` and labels int32 `[n]`.

        Raises:
          ValueError: if an image is not as large as the first one, or a label is not
            in `[0, K)`.
        """
        if "_whole" in self.__dict__:
            return super().rows(indices)
        return self._read(indices)

    def take(self, num_images: int) -> "Split":
        """Returns the first images, still in their files; see `Split.take`."""
        self._check_take(num_images)
        first = object.__new__(StoredSplit)
        first._set(**self.__dict__)
        if "_whole" in first.__dict__:
            first._set(_whole=tuple(a[:num_images] for a in self._whole))
        first._set(_length=num_images)
        return first

    def _read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((len(indices), *self._shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        bar = tqdm.tqdm(
            total=len(indices),
            desc=f"read {self._where}",
            unit="img",
            # A part of a stream is read within seconds, and another after it.
            delay=5,
            leave=False,
            disable=None,
        )
        with bar:
            for start in range(0, len(indices), _CHUNK):
                chunk = indices[start : start + _CHUNK]
                records = self._source.__getitems__(chunk.tolist())
                for i, record in enumerate(records, start):
                    image, labels[i] = self._parse(record)
                    self._check_size(image, indices[i])
                    images[i] = image
                bar.update(len(chunk))
        checks.check_labels(
            labels, len(labels), self._num_classes, name=f"{self._where} labels"
        )
        return images, labels

    def _parse(self, record: bytes) -> tuple[np.ndarray, int]:
        from tensorflow_datasets.proto import tf_example_pb2

        image_key, label_key = self._keys
        fields = tf_example_pb2.Example.FromString(record).features.feature
        image = _decode(fields[image_key].bytes_list.value[0], self._mode)
        return image, fields[label_key].int64_list.value[0]

    def _check_size(self, image: np.ndarray, row: int) -> None:
        if image.shape != self._shape:
            raise ValueError(
                f"{self._where} images must be of one size, got {list(self._shape)} "
                f"for image 0 and {list(image.shape)} for image {row}; resize them and "
                "use npz:PATH."
            )


def _decode(data: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        pixels = image if image.mode == mode else image.convert(mode)
        array = np.frombuffer(pixels.tobytes(), np.uint8)
        return array.reshape(image.height, image.width, len(mode))
