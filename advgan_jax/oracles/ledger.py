"""Record all queries and answers, so that a resumed run repeats none of them.

The run resumes at the number of queries of its last checkpoint. The ledger then answers
the queries that the run repeats. Before images are sent, the ledger counts them, so
that the count is right even if the process is killed before an answer comes.
"""

import collections
import hashlib
import logging
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from advgan_jax.oracles import _ledger_file
from advgan_jax.oracles._ledger_file import Contents, Record

_log = logging.getLogger(__name__)


class Ledger:
    """Images and answers in the order of the queries, in memory and optionally on disk.

    Each image that was sent is a query, a spare answer (one that came before those of
    the images ahead of it), measured (sent again to measure noise), or wasted.

    Attributes:
      path: of the file, or None.
      position: number of queries made; the run must repeat the recorded ones after it.
      sent: number of images that the model was sent, with answer or without.
      measured: number of recorded images that were sent again.
      again: rows and new answers of those.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open a ledger at its first query; only sent images change its file.

        Args:
          path: of the file, which need not exist; None keeps the ledger in memory.

        Raises:
          ValueError: if the file is no ledger, or damaged before its last record.
        """
        self.path: pathlib.Path | None = None if path is None else pathlib.Path(path)
        self.position: int = 0
        self.sent: int = 0
        self.measured: int = 0
        self.again: list[tuple[np.ndarray, np.ndarray]] = []
        self._images: list[np.ndarray] = []
        self._answers: list[np.ndarray] = []
        self._length = 0
        self._spares: dict[bytes, list[np.ndarray]] = collections.defaultdict(list)
        self._contents: Contents | None = None
        self._owner: tuple[str, int, str] | None = None
        self._lock = threading.RLock()
        if self.path is not None:
            found = _ledger_file.read(self.path)
            self._contents, _, self._end, self._size = found
            for record in found.records:
                self._keep(record)

    def __len__(self) -> int:
        """Return the number of recorded queries."""
        return self._length

    @property
    def wasted(self) -> int:
        """Number of images that were sent without a usable answer."""
        spare = sum(map(len, self._spares.values()))
        return max(0, self.sent - self._length - spare - self.measured)

    def attach(self, answers: str, num_classes: int, name: str = "") -> None:
        """Reserve the ledger for one model, or `ValueError`.

        Args:
          answers: their kind.
          num_classes: K.
          name: of the model; an empty one agrees with every name.
        """
        held = self._owner if self._contents is None else self._contents[:3]
        kind, classes, owner = held or (answers, num_classes, name)
        if (kind or answers, classes) != (answers, num_classes):
            raise ValueError(
                f"The ledger {self.name} must hold {answers} of {num_classes} "
                f"classes for this oracle, got {kind} of {classes} "
                "classes; it belongs to another oracle: give each oracle its own."
            )
        if name and owner and name != owner:
            raise ValueError(
                f"The ledger {self.name} must hold answers of the model {name!r}, got "
                f"those of {owner!r}; give each model its own ledger."
            )
        self._owner = (answers, num_classes, name or owner)

    def rewind(self, position: int) -> None:
        """Set `position`; `ValueError` if the ledger has fewer queries."""
        if not 0 <= position <= len(self):
            raise ValueError(
                f"`position` must be from 0 to the {len(self)} queries of the ledger "
                f"{self.name}, got {position}; was its file removed?"
            )
        self.position = position

    def replay(self, images: np.ndarray) -> np.ndarray | None:
        """Return recorded answers `[M, K]` to the next queries `[B, ...]`, or None.

        M < B where the ledger ends. `ValueError` if it recorded other images here.
        """
        count = min(len(images), len(self) - self.position)
        if count == 0 or self._contents is None:
            return None
        place = slice(self.position, self.position + count)
        self._check_sizes(images.shape[1:], self._contents.num_classes)
        if not (_joined(self._images)[place] == images[:count]).all():
            raise ValueError(
                f"The ledger {self.name} has other images at queries "
                f"{place.start} to {place.stop - 1}: the resumed run makes different "
                "queries (another `batch_size`, device or version?); resume with "
                "those of the run, or start again with another ledger."
            )
        self.position += count
        return _joined(self._answers)[place]

    def send(self, count: int, image_shape: Sequence[int]) -> None:
        """Count images before they are sent; negative if they were not after all."""
        assert self._owner is not None  # `attach` has set it
        with self._lock:
            if self._contents is None:
                self._contents = Contents(*self._owner, tuple(image_shape))
            self._check_sizes(image_shape, self._contents.num_classes)
            self._add(Record(_ledger_file.SENT, count))

    def append(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Record queries `[B, ...]` and their answers `[B, K]`, first on disk.

        `ValueError` if recorded queries remain to be replayed, a size differs, or
        another process changed the file.
        """
        if self.position != len(self):
            raise ValueError(
                f"The ledger is at query {self.position} of {len(self)}; replay the "
                "recorded queries first."
            )
        self._add(Record(_ledger_file.ANSWERED, len(images), (images, answers)))
        self.position = len(self)

    def keep_spare(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Record answers that are not yet queries; see `spares`."""
        self._add(Record(_ledger_file.SPARE, len(images), (images, answers)))

    def spares(self, images: np.ndarray) -> Mapping[int, np.ndarray]:
        """Return the spare answers to some of the images, by row.

        They remain spare until `append` records them.
        """
        left = {name: list(answers) for name, answers in self._spares.items()}
        found = {}
        for row, image in enumerate(images if left else ()):
            if left.get(name := digest(image)):
                found[row] = left[name].pop(0)
        return found

    def record_again(self, rows: np.ndarray, answers: np.ndarray) -> None:
        """Record the answers to recorded queries `rows` `[B]` that were sent again."""
        self._add(Record(_ledger_file.AGAIN, len(rows), (rows, answers)))

    def made(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images `[N, ...]` and answers `[N, K]`, N = `position` >= 1."""
        if self.position == 0:
            raise ValueError("No query has been made, so no answer is recorded.")
        images, answers = self.recorded()
        return images[: self.position], answers[: self.position]

    def recorded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images and answers of all recorded queries, at least one."""
        return _joined(self._images), _joined(self._answers)

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return str(self.path or "in memory")

    def _check_sizes(self, image_shape: Sequence[int], num_classes: int) -> None:
        """Raise `ValueError` unless the sizes are those of the recorded queries."""
        assert self._contents is not None
        _, classes, _, shape = self._contents
        if (tuple(image_shape), num_classes) != (shape, classes):
            raise ValueError(
                f"The ledger {self.name} holds images of shape {list(shape)} and "
                f"answers of {classes} classes, got {list(image_shape)} and "
                f"{num_classes}; it belongs to another oracle: give each its own."
            )

    def _add(self, record: Record) -> None:
        """Keep a record, first on disk."""
        with self._lock:
            if record.kind in (_ledger_file.ANSWERED, _ledger_file.SPARE):
                images, answers = record.arrays
                if self._contents is None:
                    owner = self._owner or ("", answers.shape[1], "")
                    self._contents = Contents(*owner, images.shape[1:])
                self._check_sizes(images.shape[1:], answers.shape[1])
            if self.path is not None:
                self._write(self.path, record)
            self._keep(record)

    def _keep(self, record: Record) -> None:
        """Count a record and keep its arrays in memory."""
        kind, count, arrays = record
        if kind == _ledger_file.SENT:
            self.sent += count
        elif kind == _ledger_file.AGAIN:
            self.measured += count
            self.again.append((arrays[0], arrays[1]))
        elif kind == _ledger_file.SPARE:
            for image, answer in zip(*arrays, strict=True):
                self._spares[digest(image)].append(answer)
        else:
            for row in self.spares(arrays[0]):
                name = digest(arrays[0][row])
                self._spares[name].pop(0)
                if not self._spares[name]:
                    del self._spares[name]
            self._images.append(arrays[0])
            self._answers.append(arrays[1])
            self._length += count

    def _write(self, path: pathlib.Path, record: Record) -> None:
        """Write a record after the last complete one; overwrite an incomplete one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        if size != self._size:
            raise ValueError(
                f"{path} must have the {self._size} bytes that this ledger wrote, got "
                f"{size}: another process changed it, perhaps a second run; end that "
                "process, then open the ledger again."
            )
        if size > self._end:
            _log.warning("The last record of %s is incomplete; it is dropped.", path)
        try:
            with path.open("r+b" if size else "wb") as file:
                file.truncate(self._end)
                file.seek(self._end)
                if not self._end:
                    assert self._contents is not None
                    file.write(_ledger_file.encode_start(self._contents))
                file.write(_ledger_file.encode(record))
                file.flush()
                # A count survives a killed process without it, and waits for no disk.
                if record.kind != _ledger_file.SENT:
                    os.fsync(file.fileno())
                end = file.tell()
        except OSError as error:
            self._size = path.stat().st_size if path.exists() else 0
            cure = "free space or make it writable, then resume"
            raise OSError(
                error.errno,
                f"A query cannot be recorded, {error.strerror}; {cure}",
                path,
            ) from error
        self._end = self._size = end


def digest(image: np.ndarray) -> bytes:
    """Return a digest of the pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate the parts, and keep the result in place of them."""
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
