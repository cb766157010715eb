"""Read image-classification sets of TensorFlow Datasets (TFDS) without TensorFlow.

Rows keep the order of TFDS, which shuffles once by a hash of each example's key.
"""

import difflib
import os
import pathlib
import re
from typing import Any

import numpy as np

from advgan_jax.data._prepare import (
    WITHOUT_TENSORFLOW,
    is_prepared,
    prepare_dataset,
    resolve_data_dir,
)
from advgan_jax.data._stored import PIXEL_MODES, StoredSplit
from advgan_jax.data.dataset import Dataset, Split


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
    test_name = _find_test_split(name, builder)
    keys = _find_keys(name, builder)
    num_classes = builder.info.features[keys[1]].num_classes
    test = StoredSplit(builder, test_name, keys, num_classes)
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
    if image.shape[-1] not in PIXEL_MODES or image.np_dtype != np.uint8:
        raise ValueError(
            f"{name!r} must have uint8 images with 1, 3 or 4 channels, got {image}; "
            "save its arrays and use npz:PATH."
        )
    return pair[0], pair[-1]


def _find_test_split(name: str, builder: Any) -> str:
    """Return the split to evaluate on, or `ValueError` for an unusable set."""
    formats = [kind.value for kind in builder.info.available_file_formats()]
    if "array_record" not in formats:
        raise ValueError(
            f"{name!r} must be prepared as array_record, got {', '.join(formats)} in "
            f"{builder.data_path}; prepare it in another `data_dir` (or TFDS_DATA_DIR)."
        )
    splits = list(builder.info.splits)
    for test in ("test", "validation"):
        if test in splits and "train" in splits:
            return test
    raise ValueError(
        f"{name!r} must have a split 'train', and 'test' or 'validation', got "
        f"{splits}; save the arrays of your own splits and use npz:PATH."
    )
