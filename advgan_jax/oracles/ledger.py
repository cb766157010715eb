"""What was asked and answered, in order, so that nothing is asked twice.

A run that was stopped goes back to the number of queries of its last checkpoint, and
what it asks from there on, the same again, is answered from the ledger.
"""

import logging
import os
import pathlib

import numpy as np

from advgan_jax.oracles.ledger_file import Contents, encode_record, read

_log = logging.getLogger(__name__)


class Ledger:
    """Images and answers in the order of the queries, in memory and perhaps on disk.

    Attributes:
      path: of the file, or None.
      position: how many queries count as made; what lies beyond is to be repeated.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        """Opens a ledger, at its beginning; its file is changed by `append` alone.

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
        self._contents: Contents | None = None
        self._owner: tuple[str, int] | None = None
        if self.path is not None:
            found = read(self.path)
            self._contents, self._end, self._size = found[0], found.end, found.size
            for record in found.records:
                self._keep(*record)

    def __len__(self) -> int:
        """How many queries it holds, repeated or not."""
        return self._length

    def attach(self, answers: str, num_classes: int) -> None:
        """Says whose answers it is for, and refuses another's.

        Args:
          answers: their kind, see `ANSWERS`.
          num_classes: K.

        Raises:
          ValueError: if it holds answers of another kind, or of other classes.
        """
        held = self._owner if self._contents is None else self._contents[:2]
        if held not in (None, (answers, num_classes), ("", num_classes)):
            raise ValueError(
                f"The ledger {self._name} must hold {answers} of {num_classes} "
                f"classes, as the oracle gives them, got {held[0] or 'answers'} of "
                f"{held[1]} classes; it is of another oracle: give each its own."
            )
        self._owner = (answers, num_classes)

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
                f"{self._name}, got {position}; was its file removed?"
            )
        self.position = position

    def replay(self, images: np.ndarray) -> np.ndarray | None:
        """Answers the first of some images, as far as the ledger goes.

        Args:
          images: float32 `[B, H, W, C]`, about to be asked.

        Returns:
          float32 `[M, K]`, M <= B, which are queries made again; None if M is 0.

        Raises:
          ValueError: if other images were asked at this place, or of another size.
        """
        count = min(len(images), len(self) - self.position)
        if count == 0:
            return None
        place = slice(self.position, self.position + count)
        self._check_sizes(images.shape[1:], self._contents.num_classes)
        if not (_joined(self._images)[place] == images[:count]).all():
            raise ValueError(
                f"The ledger {self._name} has other images at queries "
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
          ValueError: if there still are queries to be repeated, if images or answers
            are of another size than before, or something else has changed the file.
        """
        if self.position != len(self):
            raise ValueError(
                f"The ledger stands at query {self.position} of {len(self)}; repeat "
                "the others before new ones are added."
            )
        if self._contents is None:
            owner = self._owner or ("", answers.shape[1])
            self._contents = Contents(*owner, images.shape[1:])
        self._check_sizes(images.shape[1:], answers.shape[1])
        if self.path is not None:
            self._write(images, answers)
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

    @property
    def _name(self) -> str:
        return str(self.path or "in memory")

    def _check_sizes(self, image_shape: tuple[int, ...], num_classes: int) -> None:
        """Refuses what no record of this ledger could hold."""
        _, classes, shape = self._contents
        if (image_shape, num_classes) != (shape, classes):
            raise ValueError(
                f"The ledger {self._name} holds images of shape {list(shape)} and "
                f"answers of {classes} classes, got {list(image_shape)} and "
                f"{num_classes}; it is of another oracle: give each its own."
            )

    def _keep(self, images: np.ndarray, answers: np.ndarray) -> None:
        self._images.append(images)
        self._answers.append(answers)
        self._length += len(images)

    def _write(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Puts a record where the last whole one ends, in place of one that was cut."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._size:
            raise ValueError(
                f"{self.path} must have {self._size} bytes, as this ledger left it, "
                f"got {size}: something else has changed it, a second run perhaps; "
                "end that one, then open the ledger again."
            )
        if size > self._end:
            _log.warning(
                "The last record of %s was cut short; it is dropped.", self.path
            )
        with self.path.open("r+b" if size else "wb") as file:
            file.truncate(self._end)
            file.seek(self._end)
            if not self._end:
                file.write(self._contents.encode())
            file.write(encode_record(images, answers))
            file.flush()
            os.fsync(file.fileno())
            self._end = self._size = file.tell()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """All parts as one array, which takes their place."""
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
