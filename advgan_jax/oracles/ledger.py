"""What was asked and answered, in order, so that nothing is asked twice.

A run that was stopped goes back to the number of queries of its last checkpoint, and
what it asks from there on, the same again, is answered from the ledger. On disk each
record has its length and a checksum: one that was being written when the machine died
is dropped.
"""

import os
import pathlib
import struct
import zlib
from collections.abc import Iterator

import numpy as np

_HEADER = struct.Struct("<4s5II")  # magic; B, H, W, C, K; checksum of what follows
_MAGIC = b"ask1"


class Ledger:
    """Images and answers in the order of the queries, in memory and perhaps on disk.

    Attributes:
      path: of the file, or None.
      position: how many queries count as made; what lies beyond is to be repeated.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        """Opens a ledger, at its beginning.

        Args:
          path: of its file, which need not exist; None keeps it in memory alone.

        Raises:
          ValueError: if the file is no ledger, or damaged before its last record.
        """
        self.path = None if path is None else pathlib.Path(path)
        self.position = 0
        self._images: list[np.ndarray] = []
        self._answers: list[np.ndarray] = []
        self._length = 0
        if self.path is not None and self.path.exists():
            whole = 0
            for images, answers, end in _records(self.path):
                self._keep(images, answers)
                whole = end
            os.truncate(self.path, whole)

    def __len__(self) -> int:
        """How many queries it holds, repeated or not."""
        return self._length

    def rewind(self, position: int) -> None:
        """Goes back to an earlier query.

        Args:
          position: how many queries shall count as made.

        Raises:
          ValueError: if there are not so many.
        """
        if not 0 <= position <= len(self):
            raise ValueError(
                f"`position` must be from 0 to the {len(self)} queries of the ledger "
                f"{self.path or 'in memory'}, got {position}; was its file removed?"
            )
        self.position = position

    def replay(self, images: np.ndarray) -> np.ndarray | None:
        """Answers the first of some images, as far as the ledger goes.

        Args:
          images: float32 `[B, H, W, C]`, about to be asked.

        Returns:
          float32 `[M, K]`, M <= B, which are queries made again; None if M is 0.

        Raises:
          ValueError: if other images were asked at this place.
        """
        count = min(len(images), len(self) - self.position)
        if count == 0:
            return None
        place = slice(self.position, self.position + count)
        asked = _joined(self._images)[place]
        if asked.shape != images[:count].shape or not (asked == images[:count]).all():
            raise ValueError(
                f"The ledger {self.path or 'in memory'} has other images at queries "
                f"{place.start} to {place.stop - 1} than are asked now: the run did "
                "not repeat itself (another device, other versions?); start again in "
                "another workdir."
            )
        self.position += count
        return _joined(self._answers)[place]

    def append(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Adds a batch; it is on disk when this returns.

        Args:
          images: float32 `[B, H, W, C]`.
          answers: float32 `[B, K]`.

        Raises:
          ValueError: if there still are queries to be repeated.
        """
        if self.position != len(self):
            raise ValueError(
                f"The ledger stands at query {self.position} of {len(self)}; repeat "
                "the others before new ones are added."
            )
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(_record(images, answers))
                file.flush()
                os.fsync(file.fileno())
        self._keep(images, answers)
        self.position = len(self)

    def made(self) -> tuple[np.ndarray, np.ndarray]:
        """The queries up to `position`.

        Returns:
          Images `[N, H, W, C]` and answers `[N, K]`, float32.

        Raises:
          ValueError: if there are none.
        """
        if self.position == 0:
            raise ValueError("No query has been made, so there is no answer to give.")
        images, answers = _joined(self._images), _joined(self._answers)
        return images[: self.position], answers[: self.position]

    def _keep(self, images: np.ndarray, answers: np.ndarray) -> None:
        self._images.append(images)
        self._answers.append(answers)
        self._length += len(images)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """All parts as one array, which takes their place."""
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]


def _record(images: np.ndarray, answers: np.ndarray) -> bytes:
    payload = images.astype("<f4").tobytes() + answers.astype("<f4").tobytes()
    sizes = (*images.shape, answers.shape[1])
    return _HEADER.pack(_MAGIC, *sizes, zlib.crc32(payload)) + payload


def _records(path: pathlib.Path) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Images, answers and end of each whole record."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            start = file.tell() - _HEADER.size
            magic, *shape, num_classes, checksum = _HEADER.unpack(header)
            if magic != _MAGIC:
                raise _damaged(path, start)
            pixels, values = 4 * int(np.prod(shape)), 4 * shape[0] * num_classes
            payload = file.read(pixels + values)
            if len(payload) < pixels + values:
                return
            if zlib.crc32(payload) != checksum:
                if file.tell() == size:
                    return
                raise _damaged(path, start)
            images = np.frombuffer(payload[:pixels], "<f4").reshape(shape)
            answers = np.frombuffer(payload[pixels:], "<f4").reshape(shape[0], -1)
            yield images, answers, file.tell()


def _damaged(path: pathlib.Path, start: int) -> ValueError:
    return ValueError(
        f"{path} must be a ledger of queries, at byte {start} there is no whole record "
        "of one; start again in another workdir, or move the file away to ask all "
        "queries again."
    )
