"""Read and encode the file of a ledger: a sequence of records with checksums.

A machine that stops during a write cuts the last record short or fills it with zeros.
Reading drops such a record; damage anywhere else is an error.
"""

import json
import pathlib
import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

# A header: kind of record, a count, length and checksum of what follows; then its own
# checksum.
_HEADER = struct.Struct("<4si2I")
_CHECKSUM = struct.Struct("<I")
# The kinds: the ledger's oracle; images sent; answered queries; answers that are not
# yet queries; answers to recorded images that were sent again.
START, SENT, ANSWERED, SPARE, AGAIN = KINDS = (
    b"orac",
    b"sent",
    b"answ",
    b"spar",
    b"agai",
)


class Contents(NamedTuple):
    """What all records of a file have in common.

    Attributes:
      answers: the kind of answers, or an empty string.
      num_classes: K.
      name: of the model, or an empty string.
      image_shape: of one image.
    """

    answers: str
    num_classes: int
    name: str
    image_shape: tuple[int, ...]


class Record(NamedTuple):
    """A record: its kind, a count, and its arrays.

    The count is the number of images. The arrays are images and answers, or rows and
    answers of a record `AGAIN`, all float32 but the rows; those of `SENT` are empty.
    """

    kind: bytes
    count: int
    arrays: tuple[np.ndarray, ...] = ()


class Found(NamedTuple):
    """What `read` finds in a file."""

    contents: Contents | None  # None if the first record is incomplete
    records: list[Record]
    end: int  # byte at which the last complete record ends
    size: int  # of the file, in bytes


def encode_start(contents: Contents) -> bytes:
    """Encode the first record of a file."""
    return _encode(START, 0, json.dumps(contents).encode())


def encode(record: Record) -> bytes:
    """Encode any other record."""
    dtypes = ("<u4", "<f4") if record.kind == AGAIN else ("<f4", "<f4")
    pairs = zip(record.arrays, dtypes, strict=False)
    payload = b"".join(array.astype(dtype).tobytes() for array, dtype in pairs)
    return _encode(record.kind, record.count, payload)


def read(path: pathlib.Path) -> Found:
    """Read a file that need not exist; `ValueError` if it is damaged or no ledger."""
    if not path.exists():
        return Found(None, [], 0, 0)
    with path.open("rb") as file:
        start = _next(file, path, (START,))
        if start is None:
            return Found(None, [], 0, path.stat().st_size)
        answers, num_classes, name, shape = json.loads(start[2])
        contents = Contents(answers, num_classes, name, tuple(shape))
        records, end = [], file.tell()
        while (found := _next(file, path, KINDS[1:])) is not None:
            records.append(_decode(contents, *found))
            end = file.tell()
        return Found(contents, records, end, file.seek(0, 2))


def _encode(kind: bytes, count: int, payload: bytes) -> bytes:
    header = _HEADER.pack(kind, count, len(payload), zlib.crc32(payload))
    return _sealed(header) + payload


def _sealed(header: bytes) -> bytes:
    """Append its checksum to a header."""
    return header + _CHECKSUM.pack(zlib.crc32(header))


def _decode(contents: Contents, kind: bytes, count: int, payload: bytes) -> Record:
    """Split the bytes of a record into its arrays."""
    if kind == SENT:
        return Record(kind, count)
    shape = () if kind == AGAIN else contents.image_shape
    first, dtype = 4 * count * int(np.prod(shape)), "<u4" if kind == AGAIN else "<f4"
    arrays = (
        np.frombuffer(payload[:first], dtype).reshape(count, *shape),
        np.frombuffer(payload[first:], "<f4").reshape(count, contents.num_classes),
    )
    return Record(kind, count, arrays)


def _next(
    file: BinaryIO, path: pathlib.Path, kinds: Sequence[bytes]
) -> tuple[bytes, int, bytes] | None:
    """Return kind, count and bytes of the next record; None if the file ends in it."""
    place = file.tell()
    header = file.read(_HEADER.size + _CHECKSUM.size)
    sealed = header == _sealed(header[: _HEADER.size])
    if not sealed or header[:4] not in kinds:
        begins = any(kind.startswith(header[:4].rstrip(b"\0")) for kind in kinds)
        cut = len(header) < _HEADER.size + _CHECKSUM.size or header.endswith(b"\0")
        if sealed or not begins or not cut or file.read().strip(b"\0"):
            raise _damaged(path, place)
        return None
    kind, count, length, checksum = _HEADER.unpack(header[: _HEADER.size])
    payload = file.read(length)
    if len(payload) == length and zlib.crc32(payload) == checksum:
        return kind, count, payload
    if file.read().strip(b"\0"):
        raise _damaged(path, place)
    return None


def _damaged(path: pathlib.Path, start: int) -> ValueError:
    """Return the error for a file without a record at byte `start`."""
    return ValueError(
        f"{path} must be a ledger of queries, but byte {start} starts no complete "
        "record; use another workdir, or move the file away to repeat all queries."
    )
