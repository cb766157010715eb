"""Image-classification sets of TensorFlow Datasets, read without TensorFlow.

Rows come in the order in which TFDS stored them: shuffled once, by a hash of each
example's key, and the same on every machine.
"""

import difflib
import os
import pathlib
import re
from functools import partial
from typing import Any

import numpy as np

from advgan_jax.data.dataset import Dataset, Split
from advgan_jax.data.prepare import (
    WITHOUT_TENSORFLOW,
    is_prepared,
    prepare_dataset,
    resolve_data_dir,
)
from advgan_jax.data.stored import PIXEL_MODES, StoredSplit


def load_tfds(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Reads a set of TensorFlow Datasets; prepares it first if need be.

    Args:
      name: `name`, `name/config`, `name:version` as TFDS has it.
      data_dir: the folder of prepared sets; default `TFDS_DATA_DIR`, or else
        `~/tensorflow_datasets`.

    Returns:
      The splits `train` and `test`, or `validation` as the test images of a set that
      has no `test`; uint8 `[N, H, W, C]`. The training split is read when it is used
      (see `StoredSplit`).

    Raises:
      ConnectionError: if the set must be fetched and there is no network.
      ModuleNotFoundError: if the set can only be prepared by TensorFlow.
      ValueError: if there is no such set, or it is not an image-classification set of
        uint8 images of one size with a train and a test split.
    """
    data_dir = resolve_data_dir(data_dir)
    builder = _open(name, data_dir)
    if not is_prepared(builder):
        prepare_dataset(name, data_dir=data_dir)
        builder = _open(name, data_dir)
    _require_array_record(name, builder)
    image_key, label_key = _find_keys(name, builder)
    test = _find_test_split(name, builder)
    num_classes = builder.info.features[label_key].num_classes
    stored = partial(
        StoredSplit,
        builder,
        image_key=image_key,
        label_key=label_key,
        num_classes=num_classes,
    )
    # Every process evaluates all test images, of training images it may need some.
    evaluated = stored(test)
    return Dataset(
        name=name,
        train=stored("train"),
        test=Split(evaluated.images, evaluated.labels),
        num_classes=num_classes,
    )


def _open(name: str, data_dir: str) -> Any:
    """A TFDS builder for `name`, whether its files exist or not."""
    import tensorflow_datasets as tfds

    base = re.split("[/:]", name)[0]
    known = tfds.list_builders(with_community_datasets=False)
    # A user's own set, prepared elsewhere, is known by its folder only.
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


def _require_array_record(name: str, builder: Any) -> None:
    formats = [kind.value for kind in builder.info.available_file_formats()]
    if "array_record" not in formats:
        raise ValueError(
            f"{name!r} must be prepared as array_record, got {', '.join(formats)} in "
            f"{builder.data_path}; give another `data_dir` (or TFDS_DATA_DIR), it is "
            "then prepared there."
        )


def _find_keys(name: str, builder: Any) -> tuple[str, str]:
    """The keys of the image and of the class: the supervised ones, or the only ones."""
    from tensorflow_datasets import features as kinds

    features = builder.info.features
    fields = features.items() if isinstance(features, kinds.FeaturesDict) else ()
    images = [k for k, kind in fields if isinstance(kind, kinds.Image)]
    labels = [k for k, kind in fields if isinstance(kind, kinds.ClassLabel)]
    pair = builder.info.supervised_keys
    if not pair or pair[0] not in images or pair[-1] not in labels:
        if len(images) != 1 or len(labels) != 1:
            raise ValueError(
                f"{name!r} is not an image-classification set: expected one Image and "
                f"one ClassLabel, got {features}; save its arrays and use npz:PATH."
            )
        pair = (images[0], labels[0])
    image = features[pair[0]]
    if image.shape[-1] not in PIXEL_MODES or image.np_dtype != np.uint8:
        raise ValueError(
            f"{name!r} must have uint8 images with 1, 3 or 4 channels, got {image}; "
            "save its arrays and use npz:PATH."
        )
    return pair[0], pair[-1]


def _find_test_split(name: str, builder: Any) -> str:
    splits = list(builder.info.splits)
    for test in ("test", "validation"):
        if test in splits and "train" in splits:
            return test
    raise ValueError(
        f"{name!r} must have a split 'train', and 'test' or 'validation', got "
        f"{splits}; save arrays of your own split and use npz:PATH."
    )
