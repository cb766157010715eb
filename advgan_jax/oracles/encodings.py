"""Encode images for an HTTP service, and compute what the service sees of them."""

import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from advgan_jax.checks import check_integer, unknown_name
from advgan_jax.data import to_float

FORMATS = ("png", "jpeg")
PLACES = ("multipart", "body", "base64")
# Modes of Pillow by number of channels; a JPEG file has no transparency.
_MODES = {"png": {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}, "jpeg": {1: "L", 3: "RGB"}}


@dataclasses.dataclass(frozen=True)
class PixelLists:
    """Send pixels in [0, 1] as nested JSON lists, exactly.

    Attributes:
      field: of the JSON object that has the images.
    """

    field: str = "images"
    levels: ClassVar[int | None] = None

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Return the images as the service sees them: unchanged."""
        return images

    def __call__(self, images: np.ndarray) -> Mapping[str, Any]:
        """Return the arguments of `httpx.Client.request` that send images."""
        return {"json": {self.field: images.tolist()}}


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Send each image as a PNG or JPEG file of 8 bits, 256 `levels`.

    Attributes:
      format: `png`, or `jpeg`, which changes the pixels further.
      place: of the files: `multipart` form data, the `body` of a request that has one
        image, or `base64` strings in a JSON object.
      field: name of the files in the form or the JSON object.
      quality: of JPEG files, 1 to 100.
    """

    format: str = "png"
    place: str = "multipart"
    field: str = "images"
    quality: int = 95
    levels: ClassVar[int | None] = 256

    def __post_init__(self) -> None:
        for label, value, known in (
            ("format", self.format, FORMATS),
            ("place", self.place, PLACES),
        ):
            if value not in known:
                raise unknown_name(f"{label} of image files", value, known)
        check_integer("quality", self.quality, 1)
        if self.quality > 100:
            raise ValueError(f"`quality` must be at most 100, got {self.quality}.")

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Return the images as the service sees them, float32 in [0, 1].

        PNG rounds to multiples of 1/255. JPEG also loses detail.
        """
        levels = np.rint(images * 255).astype(np.uint8)
        if self.format == "jpeg" and len(images):
            shape = images.shape[1:]
            files = (Image.open(io.BytesIO(self.file(image))) for image in levels)
            levels = np.stack([np.asarray(file).reshape(shape) for file in files])
        return to_float(levels)

    def file(self, levels: np.ndarray) -> bytes:
        """Return the file of one image, uint8 `[H, W, C]`."""
        mode = _MODES[self.format].get(levels.shape[-1]) if levels.ndim == 3 else None
        if mode is None:
            channels = " or ".join(map(str, _MODES[self.format]))
            raise ValueError(
                f"A {self.format.upper()} file must have an image of shape [H, W, C] "
                f"with {channels} channels, got {list(levels.shape)}; use `PixelLists`."
            )
        buffer = io.BytesIO()
        pixels = levels[..., 0] if mode == "L" else levels
        # Without subsampling of colours the file is nearest to the pixels.
        options = {"quality": self.quality, "subsampling": 0}
        Image.fromarray(pixels).save(
            buffer, self.format, **(options if self.format == "jpeg" else {})
        )
        return buffer.getvalue()

    def __call__(self, images: np.ndarray) -> Mapping[str, Any]:
        """Return the arguments of `httpx.Client.request` that send images."""
        files = [self.file(image) for image in np.rint(images * 255).astype(np.uint8)]
        if self.place == "base64":
            return {"json": {self.field: [base64.b64encode(f).decode() for f in files]}}
        kind = f"image/{self.format}"
        if self.place == "body":
            if len(files) != 1:
                raise ValueError(
                    f"A request with the image as its body has one, got {len(files)}; "
                    "set `request_size=1`."
                )
            return {"content": files[0], "headers": {"Content-Type": kind}}
        names = (f"{number}.{self.format}" for number in range(len(files)))
        parts = zip(names, files, strict=False)
        return {"files": [(self.field, (name, file, kind)) for name, file in parts]}
