"""Splits whose images are read when they are used, from files or another library."""

import copy
import pathlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tqdm
from PIL import Image, ImageOps

from advgan_jax.checks import as_images
from advgan_jax.data.dataset import CHANNELS, Split

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of PIL, by channels
# PIL converts these without loss: bilevel, and colours of a palette.
_EXACT = {"1": "L", "P": "RGB"}


class StoredSplit(Split):
    """A split that reads and checks rows when they are used.

    `images` reads the whole split once and keeps it in memory. A subclass sets the
    fields below and reads rows.
    """

    _where: str  # names the split in messages
    _length: int
    _shape: tuple[int, int, int]
    _dtype: np.dtype

    def __len__(self) -> int:
        """Return N."""
        return self._length

    def __repr__(self) -> str:
        """Name the split; the `repr` of a dataclass would read all images."""
        return f"<{type(self).__name__} {self._where}, {len(self)} images>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the images."""
        return self._dtype

    @cached_property
    def _whole(self) -> tuple[np.ndarray, np.ndarray]:
        return self._read(np.arange(self._length))

    @property
    def images(self) -> np.ndarray:
        """All images, `[N, H, W, C]`."""
        return self._whole[0]

    @property
    def labels(self) -> np.ndarray:
        """All classes, int32 `[N]`."""
        return self._whole[1]

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels; `ValueError` for an image that differs."""
        if "_whole" in self.__dict__:
            return super().rows(indices)
        return self._read(np.arange(self._length)[indices])

    def take(self, num_images: int) -> Split:
        """Return the first images without reading them; see `Split.take`."""
        self._check_take(num_images)
        first = copy.copy(self)
        first.__dict__.pop("digest", None)
        first.__dict__.update(_length=num_images)
        if "_whole" in first.__dict__:
            first.__dict__.update(_whole=tuple(a[:num_images] for a in self._whole))
        return first

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read images and labels of row numbers, and check them."""
        raise NotImplementedError


class ListedSplit(StoredSplit):
    """A split of items that a function decodes into images."""

    _items: np.ndarray | Sequence[Any]
    _decode: Callable[[Any], np.ndarray]
    _classes: np.ndarray

    def __init__(
        self,
        items: np.ndarray | Sequence[Any],
        decode: Callable[[Any], np.ndarray],
        labels: np.ndarray,
        *,
        where: str,
    ) -> None:
        """List the items of a split with their checked labels.

        `decode` returns an image, uint8 or float32 `[H, W, C]`, or raises `ValueError`;
        `where` names the split in messages.
        """
        first = decode(items[0])
        # Not by assignment: the dataclass is frozen.
        self.__dict__.update(_items=items, _decode=decode, _classes=labels)
        self.__dict__.update(_where=where, _length=len(labels))
        self.__dict__.update(_shape=first.shape, _dtype=first.dtype)

    @property
    def labels(self) -> np.ndarray:
        """All classes, int32 `[N]`, without reading the images."""
        return self._classes[: self._length]

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode images and check that they have one shape and dtype."""
        images = np.empty((len(rows), *self._shape), self._dtype)
        shown = {"desc": f"read {self._where}", "unit": "img", "leave": False}
        # The bar is delayed: a stream reads many parts, each within seconds.
        for i, row in enumerate(tqdm.tqdm(rows, delay=5, disable=None, **shown)):
            image = self._decode(self._items[row])
            if (image.shape, image.dtype) != (self._shape, self._dtype):
                raise ValueError(
                    f"{self._where} images must be of one size and dtype, got "
                    f"{self._dtype}{list(self._shape)} for image 0 and "
                    f"{image.dtype}{list(image.shape)} for image {row}; pass `size` or "
                    "`channels`, or convert them."
                )
            images[i] = image
        return images, self._classes[rows]


def read_file(
    path: pathlib.Path, size: tuple[int, int] | None, channels: int | None
) -> np.ndarray:
    """Read an image file, uint8 `[H, W, C]`; `ValueError` names the file."""
    with _opened(path) as image:
        return decode(image, str(path), size, channels)


def check_file(
    path: pathlib.Path, size: tuple[int, int] | None, channels: int | None
) -> tuple[int, ...]:
    """Return the shape `[H, W, C]` of a file, from its header; see `read_file`."""
    with _opened(path) as image:
        mode = _mode_of(image, str(path), channels)
        try:
            # Cameras store the side that is up as a tag: 5 to 8 exchange the axes. To
            # find it in a PNG file, Pillow would decode all pixels; TIFF is upright.
            tagged = image.format not in ("PNG", "TIFF")
            turned = tagged and image.getexif().get(0x0112, 1) >= 5
        except Exception as error:  # PIL raises errors of many kinds
            raise _unreadable(str(path)) from error
        shape = image.size if turned else image.size[::-1]
    return (*(size or shape), Image.getmodebands(mode))


def _opened(path: pathlib.Path) -> Image.Image:
    """Open an image file; `ValueError` if it is none."""
    try:
        return Image.open(path)
    except Exception as error:  # PIL raises errors of many kinds
        raise _unreadable(str(path)) from error


def _unreadable(name: str) -> ValueError:
    return ValueError(
        f"{name} must be an image that Pillow can read; repair or remove the file."
    )


def decode(
    image: Image.Image,
    name: str,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Return the pixels of a Pillow image, upright, uint8 `[H, W, C]`.

    Args:
      image: grey, RGB or RGBA with 8 bits, or of a palette, and not animated.
      name: of the image in errors.
      size: (H, W) to which the image is cropped in the middle and scaled; None keeps
        its size.
      channels: 1, 3 or 4 to convert the image; None keeps its own.

    Raises:
      ValueError: for any other image, or one that cannot be read.
    """
    mode = _mode_of(image, name, channels)
    try:
        upright = ImageOps.exif_transpose(image).convert(mode)
        if size is not None:
            width_first = (size[1], size[0])
            upright = ImageOps.fit(upright, width_first, Image.Resampling.BILINEAR)
    except Exception as error:  # PIL raises errors of many kinds
        raise _unreadable(name) from error
    return np.asarray(upright).reshape(*upright.size[::-1], -1)


def _mode_of(image: Image.Image, name: str, channels: int | None) -> str:
    """Return the mode to which an image is converted, or raise for other kinds."""
    # Cameras add a preview as a second frame of `MPO`, which is no animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ValueError(
            f"{name} is animated, with {getattr(image, 'n_frames', 1)} frames; save "
            "the frame that you want as an image of its own."
        )
    own = _EXACT.get(image.mode, image.mode)
    if image.mode == "P" and "transparency" in image.info:
        own = "RGBA"
    if own not in MODES.values():
        bits = "16 bits or more" if image.mode[0] in "IF" else f"mode {image.mode}"
        raise ValueError(
            f"{name} has {bits}; expected grey, RGB or RGBA of 8 bits: convert it."
        )
    return own if channels is None else MODES[channels]


def decode_array(pixels: Any, name: str) -> np.ndarray:
    """Return the pixels of an array, uint8 or float32 `[H, W, C]`, checked."""
    array = np.asarray(pixels)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in CHANNELS:
        raise ValueError(
            f"{name} must have shape [H, W, C] with C in {CHANNELS}, or [H, W], got "
            f"{list(np.shape(pixels))}."
        )
    if array.dtype == np.uint8:
        return array
    return np.asarray(as_images(array[None], name=name)[0]).astype(np.float32)
