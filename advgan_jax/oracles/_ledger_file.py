"""The file of a ledger: whole records, each with its checksum.

A growing file can end early if a machine stops while it writes a record, or if another
process reads it at that moment. An incomplete last record, or zeros up to the end, are
dropped. Anything else that is no record is damage, and an error.
"""

import pathlib
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

# Each header ends with a checksum of what comes before it.
_START = struct.Struct("<4s16s4I")  # magic; kind of answers; K, H, W, C
_RECORD = struct.Struct("<4s2I")  # magic; B; checksum of images and answers
_CHECKSUM = struct.Struct("<I")
_START_MAGIC, _RECORD_MAGIC = b"asks", b"ask2"


class Contents(NamedTuple):
    """Kind (one of `ANSWERS`, or empty), K and (H, W, C) of all records of a ledger."""

    answers: str
    num_classes: int
    image_shape: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the first bytes of a file."""
        sizes = (self.num_classes, *self.image_shape)
        return _sealed(_START.pack(_START_MAGIC, self.answers.encode(), *sizes))


class Found(NamedTuple):
    """Contents of a file; None if even its start is incomplete.

    A record has images `[B, H, W, C]` and answers `[B, K]`, float32. The last complete
    one ends at byte `end`; from there to `size` there is an incomplete one.
    """

    contents: Contents | None
    records: list[tuple[np.ndarray, np.ndarray]]
    end: int
    size: int


def encode_record(images: np.ndarray, answers: np.ndarray) -> bytes:
    """Return a batch of queries as the bytes of a record."""
    payload = images.astype("<f4").tobytes() + answers.astype("<f4").tobytes()
    header = _RECORD.pack(_RECORD_MAGIC, len(images), zlib.crc32(payload))
    return _sealed(header) + payload


def read(path: pathlib.Path) -> Found:
    """Read a ledger file, which need not exist, without changing it.

    Raises `ValueError` if it is no ledger, or damaged before its last record.
    """
    if not path.exists():
        return Found(None, [], 0, 0)
    with path.open("rb") as file:
        start = _header(file, _START, _START_MAGIC, path)
        if start is None:
            return Found(None, [], 0, path.stat().st_size)
        kind, num_classes, *shape = start
        contents = Contents(kind.rstrip(b"\0").decode(), num_classes, tuple(shape))
        records, end = [], file.tell()
        while (record := _record(file, contents, path)) is not None:
            records.append(record)
            end = file.tell()
        return Found(contents, records, end, file.seek(0, 2))


def _sealed(header: bytes) -> bytes:
    """Return a header with its checksum."""
    return header + _CHECKSUM.pack(zlib.crc32(header))


def _header(
    file: BinaryIO, form: struct.Struct, magic: bytes, path: pathlib.Path
) -> tuple | None:
    """Return the fields after the magic; None if the file ends before or in them."""
    place = file.tell()
    header = file.read(form.size + _CHECKSUM.size)
    if header[:4] == magic and header == _sealed(header[: form.size]):
        return form.unpack(header[: form.size])[1:]
    begins = magic.startswith(header[:4].rstrip(b"\0"))
    if not begins or file.read().strip(b"\0"):
        raise _damaged(path, place)
    return None


def _record(
    file: BinaryIO, contents: Contents, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the next record; None if the file ends before or in it."""
    place = file.tell()
    header = _header(file, _RECORD, _RECORD_MAGIC, path)
    if header is None:
        return None
    count, checksum = header
    shape = (count, *contents.image_shape)
    pixels, values = 4 * int(np.prod(shape)), 4 * count * contents.num_classes
    payload = file.read(pixels + values)
    if len(payload) == pixels + values and zlib.crc32(payload) == checksum:
        images = np.frombuffer(payload[:pixels], "<f4").reshape(shape)
        answers = np.frombuffer(payload[pixels:], "<f4").reshape(count, -1)
        return images, answers
    if file.read(1):
        raise _damaged(path, place)
    return None


def _damaged(path: pathlib.Path, start: int) -> ValueError:
    """Return the error for a file without a record at byte `start`."""
    return ValueError(
        f"{path} must be a ledger of queries, at byte {start} there is no whole record "
        "of one; start again in another workdir, or move the file away to repeat "
        "all queries."
    )
