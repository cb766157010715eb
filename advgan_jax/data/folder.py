"""Image files in one folder for each class: read them, and write them."""

import os
import pathlib
import urllib.parse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from advgan_jax import checks
from advgan_jax.data.dataset import CHANNELS, Dataset, check_test_share, mask_for_test
from advgan_jax.data.stored import ListedSplit, check_file, read_file
from advgan_jax.types import Bounds

_TESTS = ("test", "val", "validation", "valid")
_Path = str | os.PathLike[str]


def load_image_folder(
    path: _Path,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    split: float | str | None = None,
) -> Dataset:
    """Load image files from one folder for each class, `PATH/CLASS/FILE`.

    The classes are the folders in alphabetical order. If all have numbers as names,
    these are the classes. If PATH has a folder `train`, it and the folder of test
    images contain the same classes. Files whose names begin with a dot are ignored.

    Args:
      path: the folder.
      size: height and width to which each image is scaled, after it was cropped in the
        middle; None if all images have one size.
      channels: 1, 3 or 4, to which all images are converted: grey, RGB or RGBA. None if
        all are of one kind.
      split: the name of the folder of test images, by default `test`, `val`,
        `validation` or `valid`; or the share of each class that becomes test images,
        0.2 by default if there is no folder `train`.

    Returns:
      The data set, uint8, named `folder:PATH`. Training images are read when they are
      used.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if a file is no image, is animated, or has another size or kind than
        the first; or if a class has too few images.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"expected a folder of images, found none at {root.absolute()}; "
            "`folder:PATH` is relative to the current folder."
        )
    if channels is not None and channels not in CHANNELS:
        raise ValueError(f"`channels` must be one of {CHANNELS}, got {channels}.")
    if split is not None and not isinstance(split, str):
        check_test_share(split)
    wanted = _size(size)
    places = _places(root, split)
    listed = {name: _list_files(folder) for name, folder in places.items()}
    names = [sorted(files, key=_order) for files in listed.values()]
    if any(other != names[0] for other in names):
        differ = sorted(set(names[0]) ^ set(names[-1]))
        raise ValueError(
            f"{' and '.join(map(str, places.values()))} must have the same classes, "
            f"got {differ[0]!r} in one only."
        )
    classes = _number(names[0], root)
    shape = None
    for files in listed.values():
        shape = _check_files(files, wanted, channels, shape)
    read = partial(read_file, size=wanted, channels=channels)
    rows = {where: _rows(files, classes) for where, files in listed.items()}
    if len(rows) == 1:
        ((paths, labels),) = rows.values()
        mask = mask_for_test(labels, 0.2 if split is None else split, names[0])
        rows = {
            "train": (paths[~mask], labels[~mask]),
            "test": (paths[mask], labels[mask]),
        }
    train, test = (
        ListedSplit(paths, read, labels, where=f"{root} {where}")
        for where, (paths, labels) in rows.items()
    )
    return Dataset(f"folder:{path}", train, test, len(classes))


def load_folder_name(name: str) -> Dataset:
    """Load `PATH` or `PATH?size=32&channels=3&split=0.2`; see `load_image_folder`."""
    path, _, query = name.partition("?")
    options: dict[str, Any] = {}
    for key, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        try:
            if key == "size":
                pair = tuple(map(int, value.split("x")))
                options[key] = pair[0] if len(pair) == 1 else pair
            elif key == "channels":
                options[key] = int(value)
            elif key == "split":
                options[key] = float(value) if value[:1] in "0123456789." else value
            else:
                known = ("size", "channels", "split")
                raise checks.unknown_name("option of `folder:PATH?`", key, known)
        except ValueError as error:
            if "Unknown" in str(error):
                raise
            raise ValueError(
                f"`{key}` in folder:{name} must be a number (size: 32 or 32x48), got "
                f"{value!r}."
            ) from error
    found = load_image_folder(path, **options)
    return Dataset(f"folder:{name}", found.train, found.test, found.num_classes)


def save_images(
    folder: _Path, images: Any, labels: Any, *, bounds: Bounds = (0.0, 1.0)
) -> list[pathlib.Path]:
    """Write images as PNG files of 8 bits, `FOLDER/CLASS/NUMBER.png`.

    Args:
      folder: must be empty or not exist.
      images: `[N, H, W, C]` with C 1, 3 or 4: uint8, or floats that `attacks.quantize`
        rounded, since other pixels would change when they are saved.
      labels: int `[N]`, class ids, the names of the folders.
      bounds: the values of black and white.

    Returns:
      The files, in the order of the images.

    Raises:
      FileExistsError: if the folder is not empty.
      ValueError: for wrong shapes or values, or floats that 8 bits cannot hold.
    """
    given = np.asarray(images)
    checks.check_image_axes(given)
    if given.shape[-1] not in CHANNELS:
        raise ValueError(
            f"`images` must have {CHANNELS} channels, got shape {list(given.shape)}."
        )
    pixels = np.asarray(checks.as_images(given, bounds), np.float64)
    ids = np.asarray(labels)
    checks.check_labels(ids, len(given), np.iinfo(np.int32).max)
    low, high = bounds
    levels = np.rint((pixels - low) * (255 / (high - low))).astype(np.uint8)
    change = np.abs(pixels - checks.to_float(levels, bounds))
    largest = change.max(initial=0)
    if largest > checks.ROUNDING * max(abs(low), abs(high)):
        raise ValueError(
            f"`images` must be of 8 bits, got one that would change by {largest:g} in "
            "a file; round first: `attacks.quantize(images, originals, epsilon=)`."
        )
    root = pathlib.Path(folder).expanduser()
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(
            f"{root} must be empty or not exist, so that no other images mix with "
            "these; choose another folder."
        )
    width, paths = len(str(len(ids) - 1)), []
    for i, (image, label) in enumerate(zip(levels, ids.tolist(), strict=True)):
        paths.append(root / str(label) / f"{i:0{width}d}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
            paths[-1]
        )
    return paths


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return `size` as height and width."""
    pair = (size, size) if isinstance(size, int) else size
    if pair is None:
        return None
    if len(pair) != 2 or not all(isinstance(n, int) and n >= 1 for n in pair):
        raise ValueError(f"`size` must be one or two positive integers, got {size!r}.")
    return pair[0], pair[1]


def _folders(root: pathlib.Path) -> list[str]:
    found = (p.name for p in root.iterdir() if p.is_dir())
    return sorted(name for name in found if not name.startswith("."))


def _places(root: pathlib.Path, split: float | str | None) -> dict[str, pathlib.Path]:
    """Return the folders of training and of test images, or the only folder."""
    found = _folders(root)
    tests = [split] if isinstance(split, str) else [n for n in _TESTS if n in found]
    if isinstance(split, str) and not {"train", split} <= set(found):
        raise ValueError(
            f"{root} must have the folders 'train' and {split!r}, got {found}."
        )
    if "train" not in found or not tests:
        return {"train": root}
    if isinstance(split, float):
        raise ValueError(
            f"{root} has the folders 'train' and {tests[0]!r}, so `split` must be the "
            f"name of one or None, got {split}."
        )
    others = [name for name in found if name not in ("train", *tests, *_TESTS)]
    if others:
        raise ValueError(
            f"{root} must have either 'train' and {tests[0]!r}, or a folder for each "
            f"class, got both: {others[0]!r}; move the other folders."
        )
    return {"train": root / "train", "test": root / tests[0]}


def _list_files(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Return the files of each class, in order; `ValueError` if there are none."""
    classes = _folders(folder)
    if len(classes) < 2:
        raise ValueError(
            f"{folder} must have a folder for each of at least two classes, got "
            f"{classes or 'none'}."
        )
    files = {}
    for name in classes:
        inside = sorted((folder / name).iterdir())
        files[name] = [path for path in inside if not path.name.startswith(".")]
        if not files[name]:
            raise ValueError(f"Class {name!r} has no images in {folder / name}.")
    return files


def _order(name: str) -> tuple[int, str]:
    """Sort numbers by value, and other names as text."""
    return (int(name) if name.isdecimal() else -1), name


def _number(names: Sequence[str], root: pathlib.Path) -> dict[str, int]:
    """Return the class of each folder."""
    classes = {name: i for i, name in enumerate(names)}
    if all(name.isdecimal() for name in names):
        classes = {name: int(name) for name in names}
        missing = sorted(set(range(len(names))) - set(classes.values()))
        if missing:
            raise ValueError(
                f"The classes of {root} have numbers as names and must be all of 0 to "
                f"K - 1, got no {missing[0]}; rename the folders."
            )
    return classes


def _check_files(
    files: dict[str, list[pathlib.Path]],
    size: tuple[int, int] | None,
    channels: int | None,
    shape: tuple[int, ...] | None,
) -> tuple[int, ...] | None:
    """Check the headers of all files; each must have the shape of the first."""
    every = [path for paths in files.values() for path in paths]
    for path in tqdm.tqdm(every, "check images", delay=5, disable=None, leave=False):
        found = check_file(path, size, channels)
        if shape is None:
            shape = found
        if found != shape:
            kinds = {1: "grey", 3: "RGB", 4: "RGBA"}
            raise ValueError(
                f"{path} is {kinds[found[-1]]} of {found[0]}x{found[1]} pixels, but "
                f"the first image is {kinds[shape[-1]]} of {shape[0]}x{shape[1]}; pass "
                "`size` to scale and `channels` to convert all images."
            )
    return shape


def _rows(
    files: dict[str, list[pathlib.Path]], classes: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return all files and their classes, int32 `[N]`."""
    pairs = [(path, classes[name]) for name, paths in files.items() for path in paths]
    paths = np.empty(len(pairs), object)
    paths[:] = [path for path, _ in pairs]
    return paths, np.asarray([label for _, label in pairs], np.int32)
