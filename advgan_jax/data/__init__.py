"""Load data sets by name, from a file or from arrays, as checked numpy arrays.

To add a set, write a `load_NAME` that returns a `Dataset`, and call it in
`load_dataset`. Only the sets of TensorFlow Datasets import that library.
"""

import os

from advgan_jax.checks import to_float
from advgan_jax.data._prepare import prepare_dataset
from advgan_jax.data.arrays import from_arrays, load_table
from advgan_jax.data.batches import evaluation_batches, shuffled
from advgan_jax.data.dataset import (
    Dataset,
    Split,
    check_split,
    check_trainable,
    split_for_distillation,
)
from advgan_jax.data.digits import load_digits
from advgan_jax.data.folder import load_folder_name, load_image_folder, save_images
from advgan_jax.data.huggingface import from_huggingface
from advgan_jax.data.npz import load_npz
from advgan_jax.data.tfds_source import load_tfds

__all__ = [
    "Dataset",
    "Split",
    "check_split",
    "check_trainable",
    "evaluation_batches",
    "from_arrays",
    "from_huggingface",
    "load_dataset",
    "load_digits",
    "load_image_folder",
    "load_npz",
    "load_table",
    "load_tfds",
    "prepare_dataset",
    "save_images",
    "shuffled",
    "split_for_distillation",
    "to_float",
]


def load_dataset(
    name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> Dataset:
    """Load a data set by name.

    Args:
      name: `digits` (scikit-learn's, 8x8, no download); `npz:PATH` (see `load_npz`);
        `folder:PATH` or `folder:PATH?size=32&channels=3&split=0.2` (see
        `load_image_folder`); or an image-classification set of TensorFlow Datasets (see
        `load_tfds`). Of these, `mnist`, `fashion_mnist`, `cifar10` and `cifar100` need
        no TensorFlow.
      data_dir: the folder of prepared sets, by default `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`. Original files in `data_dir/downloads/manual` replace a
        download.

    Returns:
      The data set, with checked shapes, dtypes and values.

    Raises:
      ConnectionError: if the set must be downloaded and there is no network.
      FileNotFoundError: if there is no file at PATH.
      ModuleNotFoundError: if only TensorFlow can prepare the set and it is missing.
      TypeError: if an array has the wrong dtype.
      ValueError: if the name is unknown or the data cannot be used.
    """
    if name == "digits":
        return load_digits()
    if name.startswith("npz:"):
        return load_npz(name.removeprefix("npz:"))
    if name.startswith("folder:"):
        return load_folder_name(name.removeprefix("folder:"))
    return load_tfds(name, data_dir=data_dir)
