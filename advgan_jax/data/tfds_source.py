"""Read image-classification sets of TensorFlow Datasets (TFDS) without TensorFlow.

Rows keep the order of TFDS, which shuffles once by a hash of each example's key.
"""

import contextlib
import difflib
import logging
import os
import pathlib
import re
from functools import cached_property
from typing import Any

import numpy as np
import tqdm

from advgan_jax import checks
from advgan_jax.data._prepare import (
    WITHOUT_TENSORFLOW,
    is_prepared,
    prepare_dataset,
    resolve_data_dir,
)
from advgan_jax.data._records import check_counts, doubts, parse_example
from advgan_jax.data.dataset import Dataset, Split, digest_rows
from advgan_jax.data.stored import MODES, StoredSplit
from advgan_jax.files import one_line, reading

_log = logging.getLogger(__name__)
_CHUNK = 1024  # records read at once
_MOST_DIGESTED = 2**28  # bytes of pixels; of a larger split, evenly spaced images


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
            f"{splits} in {builder.data_path}; save the arrays of your own splits and "
            "use npz:PATH."
        )
    keys = _find_keys(name, builder)
    num_classes = builder.info.features[keys[1]].num_classes
    test = TfdsSplit(builder, tests[0], keys, num_classes)
    train = TfdsSplit(builder, "train", keys, num_classes)
    for doubt in doubts(builder, test.images, test.labels, num_classes):
        _log.warning("features.json in %s may be damaged: %s", builder.data_path, doubt)
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
            f"Unknown data set {name!r}.{hint} Known: digits, npz:PATH, folder:PATH, "
            f"{', '.join(WITHOUT_TENSORFLOW)}, and every image-classification set of "
            "TensorFlow Datasets."
        )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # a damaged file raises errors of many kinds
        found = f"TensorFlow Datasets says: {one_line(error)}"
        folder = pathlib.Path(data_dir, base)
        if name == base:
            raise ValueError(
                f"dataset_info.json or features.json in {folder} is damaged; delete "
                f"the folder of the version to prepare {name!r} again. {found}"
            ) from error
        raise ValueError(
            f"Unknown config or version in {name!r}, or a damaged .json file in "
            f"{folder}; expected NAME, NAME/CONFIG or NAME:VERSION. {found}"
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
                f"one ClassLabel, got {features} in {builder.data_path}; save its "
                "arrays and use npz:PATH."
            )
        pair = (images[0], labels[0])
    image: Any = fields[pair[0]]
    if image.shape[-1] not in MODES or image.np_dtype != np.uint8:
        raise ValueError(
            f"{name!r} must have uint8 images with 1, 3 or 4 channels, got {image} in "
            f"{builder.data_path}; save its arrays and use npz:PATH."
        )
    return pair[0], pair[-1]


class TfdsSplit(StoredSplit):
    """A split of a prepared TFDS set; `labels` too reads the whole split once."""

    _source: Any
    _keys: tuple[str, str]
    _mode: str
    _num_classes: int
    _folder: str

    def __init__(
        self, builder: Any, name: str, keys: tuple[str, str], num_classes: int
    ) -> None:
        """Open split `name` of a prepared TFDS builder; `keys` name image and class."""
        from tensorflow_datasets import decode

        # Not by assignment: the dataclass is frozen.
        self.__dict__.update(
            _keys=keys,
            _mode=MODES[builder.info.features[keys[0]].shape[-1]],
            _num_classes=num_classes,
            _where=f"{builder.info.name} {name}",
            _folder=str(builder.data_path),
        )
        with self._reading():
            check_counts(builder.info.splits[name])
            # Raw records: if TFDS decodes all features, reading takes 1.5 times as long
            # and warns that OpenCV is missing.
            source = builder.as_data_source(
                name,
                file_format="array_record",
                deserialize_method=decode.DeserializeMethod.RAW_BYTES,
            )
            first = source[0]
        self.__dict__.update(_source=source, _length=len(source))
        image, _ = self._parse(first)
        self.__dict__.update(_shape=image.shape, _dtype=image.dtype)

    @cached_property
    def digest(self) -> str:
        """See `Split`; of a split above 256 MiB, evenly spaced images count."""
        whole = self.num_bytes <= _MOST_DIGESTED
        if whole:
            _ = self._whole  # read once, for the digest and for training
        share = 1.0 if whole else _MOST_DIGESTED / self.num_bytes
        return digest_rows(self, max(1, round(share * len(self))))

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read and check rows from the files."""
        images = np.empty((len(rows), *self._shape), np.uint8)
        labels = np.empty(len(rows), np.int32)
        shown = {"desc": f"read {self._where}", "unit": "img", "leave": False}
        # The bar is delayed: a stream reads many parts, each within seconds.
        with tqdm.tqdm(total=len(rows), delay=5, disable=None, **shown) as bar:
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                with self._reading():
                    records = self._source.__getitems__(chunk.tolist())
                for i, record in enumerate(records, start):
                    image, labels[i] = self._parse(record)
                    if image.shape != self._shape:
                        raise ValueError(
                            f"{self._where} images must be of one size, got "
                            f"{list(self._shape)} for image 0 and {list(image.shape)} "
                            f"for image {rows[i]}; resize them and use npz:PATH."
                        )
                    images[i] = image
                bar.update(len(chunk))
        name = f"{self._where} labels in {self._folder}"
        checks.check_labels(labels, len(labels), self._num_classes, name=name)
        return images, labels

    def _parse(self, record: bytes) -> tuple[np.ndarray, int]:
        """Return the image, uint8 `[H, W, C]`, and the class of an encoded example."""
        with self._reading():
            return parse_example(record, self._keys, self._mode)

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        """Turn any fault of the block into one line with the names of the files."""
        expected = "a set with the records that its dataset_info.json lists"
        return reading(self._folder, expected, "delete it to prepare it again")
