"""Files that are damaged or cannot be written: one line with the name and the cure.

Readers of damaged files raise errors of many kinds. `reading` turns all of them into
one `ValueError`.
"""

import contextlib
import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy

Path = str | os.PathLike[str]
_LONGEST = 300  # characters of another library's message


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line, or its name if it has none."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text or type(error).__name__


@contextlib.contextmanager
def reading(path: Path, expected: str, cure: str) -> Iterator[None]:
    """Raise `ValueError` for any fault of the block, which reads a file.

    Args:
      path: the file or folder, for the message.
      expected: what it must be, such as `a ledger of queries`.
      cure: what the user can do.

    Raises:
      OSError: if the file cannot be opened.
      ValueError: for any other fault.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise type(error)(
                f"{error.filename} must be {expected}, but cannot be opened "
                f"({error.strerror}); {cure}."
            ) from error
        raise ValueError(
            f"{path} must be {expected}, but cannot be read ({one_line(error)}); "
            f"{cure}."
        ) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in an `OSError` of the block, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        raise type(error)(
            f"{path} cannot be written ({os.strerror(error.errno)}); free disk space, "
            "or choose a folder that you may write to."
        ) from error


def read_json(path: Path, expected: str, cure: str) -> dict[str, Any]:
    """Read a file of one JSON object; see `reading` for the arguments and errors."""
    with reading(path, expected, cure):
        found = json.loads(pathlib.Path(path).read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"expected a JSON object, got {type(found).__name__}")
    return found


def read_npy(path: Path) -> np.ndarray:
    """Read an array that `numpy.save` wrote, without pickles.

    Raises:
      ValueError: if the file is not one whole array of numbers.
      OSError: if it cannot be opened.
    """
    return _parse_npy(pathlib.Path(path).read_bytes())


def read_npz(path: Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Read arrays that `numpy.savez` wrote, with checksums and without pickles.

    Args:
      path: the file.
      names: the arrays to read, if they exist; None means all. The headers of the
        others are checked too.

    Raises:
      ValueError, zipfile.BadZipFile and others: if the file is damaged or contains
        anything but arrays; see `reading`.
      OSError: if it cannot be opened.
    """
    with zipfile.ZipFile(path) as archive:
        found = {}
        for member in archive.infolist():
            with archive.open(member) as file:  # raises if its two headers differ
                name = member.filename.removesuffix(".npy")
                if names is None or name in names:
                    found[name] = _parse_npy(file.read())
    return found


def _parse_npy(data: bytes) -> np.ndarray:
    """Return the array of an .npy file; it reserves no memory beyond the file's."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0
    if version != (1, 0):
        read_header = npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("expected plain arrays, found Python objects")
    start, size = file.tell(), math.prod(shape) * dtype.itemsize
    if len(data) - start != size:
        raise ValueError(
            f"expected {size} bytes of {dtype}{list(shape)}, got {len(data) - start}"
        )
    flat = np.frombuffer(data, dtype, offset=start) if size else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
