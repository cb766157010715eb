"""Read and encode the file of a ledger: a sequence of records with checksums.

A machine that stops during a write cuts the last record short or fills it with zeros.
Reading drops such a record; damage anywhere else is an error.
"""

import pathlib
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

# A checksum of its bytes follows each header.
_START = struct.Struct("<4s16s4I")  # magic; kind of answers; K, H, W, C
_RECORD = struct.Struct("<4s2I")  # magic; B; checksum of images and answers
_CHECKSUM = struct.Struct("<I")
_START_MAGIC, _RECORD_MAGIC = b"asks", b"ask2"


class Contents(NamedTuple):
    """The kind of answers (or an empty string), K and (H, W, C) of all records."""

    answers: str
    num_classes: int
    image_shape: tuple[int, ...]

    def encode(self) -> bytes:
        """Encode the header of a file."""
        sizes = (self.num_classes, *self.image_shape)
        return _sealed(_START.pack(_START_MAGIC, self.answers.encode(), *sizes))


class Found(NamedTuple):
    """What `read` finds in a file."""

    contents: Contents | None  # None if the header of the file is incomplete
    records: list[tuple[np.ndarray, np.ndarray]]  # images and answers, float32
    end: int  # byte at which the last complete record ends
    size: int  # of the file, in bytes


def encode_record(images: np.ndarray, answers: np.ndarray) -> bytes:
    """Encode a batch of queries as a record."""
    payload = images.astype("<f4").tobytes() + answers.astype("<f4").tobytes()
    header = _RECORD.pack(_RECORD_MAGIC, len(images), zlib.crc32(payload))
    return _sealed(header) + payload


def read(path: pathlib.Path) -> Found:
    """Read a file that need not exist; `ValueError` if it is damaged or no ledger."""
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
    """Append its checksum to a header."""
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
        f"{path} must be a ledger of queries, but byte {start} starts no complete "
        "record; use another workdir, or move the file away to repeat all queries."
    )
