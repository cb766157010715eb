"""Pictures of samples as sheets, one PNG for many images, within a limit of size."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from advgan_jax import digest

COLUMNS = 10  # of a sheet
_KINDS = ("clean", "perturbation", "adversarial")
_MOST_BYTES = 900_000  # of all sheets together, as text


def data_url(png: bytes) -> str:
    """Return a PNG as an address that contains it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def make_sheets(
    samples: Sequence[Mapping[str, np.ndarray]],
) -> tuple[list[dict[str, Any] | None], dict[str, str]]:
    """Return how a page shows the images of samples, and the sheets by name.

    All samples show equally many of their first images, as many as the limit allows.
    Equal sheets, such as those of the clean images, exist once.
    """
    count = max((len(s["clean"]) for s in samples if "clean" in s), default=0)
    while True:
        sheets: dict[str, str] = {}
        shown = [_show(sample, count, sheets) for sample in samples]
        if sum(map(len, sheets.values())) <= _MOST_BYTES or count <= 1:
            return shown, sheets
        count //= 2


def _show(
    sample: Mapping[str, np.ndarray], count: int, sheets: dict[str, str]
) -> dict[str, Any] | None:
    """Return what the page's script needs of a sample; add its sheets to the others."""
    if "clean" not in sample:
        return None
    few = {name: sample[name][:count] for name in _KINDS}
    names = {}
    for kind, images in few.items():
        names[kind] = f"s{digest.of_array(images)[:12]}"
        if names[kind] not in sheets:
            sheets[names[kind]] = data_url(_sheet(images))
    number, height, width = few["clean"].shape[:3]
    fields = ("labels", "targets", "clean_predictions", "predictions")
    numbers = {n: sample[n][:count].tolist() for n in fields}
    sizes = {
        name: np.round(sample[name][:count].astype(float), 4).tolist()
        for name in ("l2", "linf", "margin")
        if name in sample
    }
    return {
        "sheets": names,
        "grid": [COLUMNS, -(-number // COLUMNS)],
        "ratio": height / width,
        "scale": round(float(sample["scale"]), 4),
        **numbers,
        **sizes,
    }


def _sheet(images: np.ndarray) -> bytes:
    """Return images `[M, H, W, C]` side by side as a PNG."""
    number, height, width, channels = images.shape
    lines = -(-number // COLUMNS)
    blank = np.zeros((lines * COLUMNS - number, height, width, channels), np.uint8)
    tiles = np.concatenate([images, blank])
    tiles = tiles.reshape(lines, COLUMNS, height, width, channels)
    whole = tiles.transpose(0, 2, 1, 3, 4).reshape(lines * height, -1, channels)
    file = io.BytesIO()
    Image.fromarray(whole.squeeze(-1) if channels == 1 else whole).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()
