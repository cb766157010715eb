"""A record of all queries and answers, so that no query is paid for twice.

A resumed run returns to the number of queries of its last checkpoint. The ledger then
answers the queries that the run repeats.
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
      position: number of queries made; the run must repeat those beyond it.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open a ledger at its beginning; only `append` changes its file.

        Args:
          path: of its file, which need not exist; None keeps the ledger in memory.

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
        """Return the number of queries that the ledger holds."""
        return self._length

    def attach(self, answers: str, num_classes: int) -> None:
        """Reserve the ledger for an oracle's kind of `answers` and its K classes.

        Raises:
          ValueError: if it holds answers of another kind or number of classes.
        """
        held = self._owner if self._contents is None else self._contents[:2]
        if held not in (None, (answers, num_classes), ("", num_classes)):
            raise ValueError(
                f"The ledger {self._name} must hold {answers} of {num_classes} "
                f"classes, as the oracle gives them, got {held[0] or 'answers'} of "
                f"{held[1]} classes; it belongs to another oracle: give each its own."
            )
        self._owner = (answers, num_classes)

    def rewind(self, position: int) -> None:
        """Return to the query number `position`, from which the run repeats queries.

        Raises:
          ValueError: if the ledger holds fewer queries.
        """
        if not 0 <= position <= len(self):
            raise ValueError(
                f"`position` must be from 0 to the {len(self)} queries of the ledger "
                f"{self._name}, got {position}; was its file removed?"
            )
        self.position = position

    def replay(self, images: np.ndarray) -> np.ndarray | None:
        """Answer the first of some images as far as the ledger goes.

        Args:
          images: float32 `[B, H, W, C]`, the next queries.

        Returns:
          float32 `[M, K]`, the recorded answers to M <= B repeated queries, or None.

        Raises:
          ValueError: if the ledger has other images here, or of another size.
        """
        count = min(len(images), len(self) - self.position)
        if count == 0 or self._contents is None:
            return None
        place = slice(self.position, self.position + count)
        self._check_sizes(self._contents, images.shape[1:], self._contents.num_classes)
        if not (_joined(self._images)[place] == images[:count]).all():
            raise ValueError(
                f"The ledger {self._name} has other images at queries "
                f"{place.start} to {place.stop - 1} than are queried now: the run did "
                "not repeat itself (another device, other versions?); start again in "
                "another workdir."
            )
        self.position += count
        return _joined(self._answers)[place]

    def append(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Add a batch of queries; it is on disk when this returns.

        Args:
          images: float32 `[B, H, W, C]`.
          answers: float32 `[B, K]`.

        Raises:
          ValueError: if queries remain to be repeated, sizes differ from before, or
            something else has changed the file.
        """
        if self.position != len(self):
            raise ValueError(
                f"The ledger stands at query {self.position} of {len(self)}; repeat "
                "the others before you add new ones."
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
        """Return images `[N, H, W, C]` and answers `[N, K]` up to `position`, float32.

        Raises:
          ValueError: if no query has been made.
        """
        if self.position == 0:
            raise ValueError("No query has been made, so there is no answer to give.")
        images, answers = _joined(self._images), _joined(self._answers)
        return images[: self.position], answers[: self.position]

    @property
    def _name(self) -> str:
        return str(self.path or "in memory")

    def _check_sizes(
        self, contents: Contents, image_shape: tuple[int, ...], num_classes: int
    ) -> None:
        """Raise `ValueError` for images or answers that no record here could hold."""
        _, classes, shape = contents
        if (image_shape, num_classes) != (shape, classes):
            raise ValueError(
                f"The ledger {self._name} holds images of shape {list(shape)} and "
                f"answers of {classes} classes, got {list(image_shape)} and "
                f"{num_classes}; it belongs to another oracle: give each its own."
            )

    def _keep(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Add a batch to memory."""
        self._images.append(images)
        self._answers.append(answers)
        self._length += len(images)

    def _write(self, path: pathlib.Path, contents: Contents, record: bytes) -> None:
        """Write a record after the last complete one, in place of an incomplete one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        if size != self._size:
            raise ValueError(
                f"{path} must have {self._size} bytes, as this ledger left it, got "
                f"{size}: something else has changed it, a second run perhaps; end "
                "that one, then open the ledger again."
            )
        if size > self._end:
            _log.warning("The last record of %s was cut short; it is dropped.", path)
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
    """Return all parts as one array, which also replaces them."""
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
