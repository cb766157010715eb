"""Record all queries and answers, so that a resumed run pays for no query twice.

The run resumes at the number of queries of its last checkpoint. The ledger then answers
the queries that the run repeats.
"""

import logging
import os
import pathlib

import numpy as np

from advgan_jax.oracles._ledger_file import Contents, encode_record, read

_log = logging.getLogger(__name__)


class Ledger:
    """Images and answers in the order of the queries, in memory and optionally on disk.

    Attributes:
      path: of the file, or None.
      position: number of queries made; the run must repeat the recorded ones after it.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open a ledger at its first query; only `append` changes its file.

        Args:
          path: of the file, which need not exist; None keeps the ledger in memory.

        Raises:
          ValueError: if the file is no ledger, or damaged before its last record.
        """
        self.path: pathlib.Path | None = None if path is None else pathlib.Path(path)
        self.position: int = 0
        self._images: list[np.ndarray] = []
        self._answers: list[np.ndarray] = []
        self._length = 0
        self._contents: Contents | None = None
        self._owner: tuple[str, int] | None = None
        if self.path is not None:
            found = read(self.path)
            self._contents, _, self._end, self._size = found
            for record in found.records:
                self._keep(*record)

    def __len__(self) -> int:
        """Return the number of recorded queries."""
        return self._length

    def attach(self, answers: str, num_classes: int) -> None:
        """Reserve the ledger for one kind of answers and K classes, or `ValueError`."""
        held = self._owner if self._contents is None else self._contents[:2]
        if held not in (None, (answers, num_classes), ("", num_classes)):
            raise ValueError(
                f"The ledger {self._name} must hold {answers} of {num_classes} "
                f"classes for this oracle, got {held[0] or 'answers'} of {held[1]} "
                "classes; it belongs to another oracle: give each oracle its own."
            )
        self._owner = (answers, num_classes)

    def rewind(self, position: int) -> None:
        """Set `position`; `ValueError` if the ledger has fewer queries."""
        if not 0 <= position <= len(self):
            raise ValueError(
                f"`position` must be from 0 to the {len(self)} queries of the ledger "
                f"{self._name}, got {position}; was its file removed?"
            )
        self.position = position

    def replay(self, images: np.ndarray) -> np.ndarray | None:
        """Return recorded answers `[M, K]` to the next queries `[B, H, W, C]`, or None.

        M < B where the ledger ends. `ValueError` if it recorded other images here.
        """
        count = min(len(images), len(self) - self.position)
        if count == 0 or self._contents is None:
            return None
        place = slice(self.position, self.position + count)
        self._check_sizes(self._contents, images.shape[1:], self._contents.num_classes)
        if not (_joined(self._images)[place] == images[:count]).all():
            raise ValueError(
                f"The ledger {self._name} has other images at queries "
                f"{place.start} to {place.stop - 1}: the resumed run makes different "
                "queries (another device, other versions?); start again in another "
                "workdir."
            )
        self.position += count
        return _joined(self._answers)[place]

    def append(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Record queries `[B, H, W, C]` and their answers `[B, K]`, first on disk.

        `ValueError` if recorded queries remain to be replayed, a size differs, or
        another process changed the file.
        """
        if self.position != len(self):
            raise ValueError(
                f"The ledger is at query {self.position} of {len(self)}; replay the "
                "recorded queries first."
            )
        if self._contents is None:
            owner = self._owner or ("", answers.shape[1])
            self._contents = Contents(*owner, images.shape[1:])
        self._check_sizes(self._contents, images.shape[1:], answers.shape[1])
        if self.path is not None:
            self._write(self.path, self._contents, encode_record(images, answers))
        self._keep(images, answers)
        self.position = len(self)

    def made(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images `[N, H, W, C]` and answers `[N, K]`, N = `position` >= 1."""
        if self.position == 0:
            raise ValueError("No query has been made, so no answer is recorded.")
        images, answers = _joined(self._images), _joined(self._answers)
        return images[: self.position], answers[: self.position]

    @property
    def _name(self) -> str:
        return str(self.path or "in memory")

    def _check_sizes(
        self, contents: Contents, image_shape: tuple[int, ...], num_classes: int
    ) -> None:
        """Raise `ValueError` unless the sizes are those of the recorded queries."""
        _, classes, shape = contents
        if (image_shape, num_classes) != (shape, classes):
            raise ValueError(
                f"The ledger {self._name} holds images of shape {list(shape)} and "
                f"answers of {classes} classes, got {list(image_shape)} and "
                f"{num_classes}; it belongs to another oracle: give each its own."
            )

    def _keep(self, images: np.ndarray, answers: np.ndarray) -> None:
        self._images.append(images)
        self._answers.append(answers)
        self._length += len(images)

    def _write(self, path: pathlib.Path, contents: Contents, record: bytes) -> None:
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
        with path.open("r+b" if size else "wb") as file:
            file.truncate(self._end)
            file.seek(self._end)
            if not self._end:
                file.write(contents.encode())
            file.write(record)
            file.flush()
            os.fsync(file.fileno())
            self._end = self._size = file.tell()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate the parts, and keep the result in place of them."""
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
