"""A black box: any function from images to answers, asked in batches and counted."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from advgan_jax.checks import check_at_least, check_images
from advgan_jax.data import to_float
from advgan_jax.oracles.answers import UnusableAnswer, check_kind, to_probabilities
from advgan_jax.oracles.errors import BudgetExhausted, OracleError
from advgan_jax.oracles.ledger import Ledger
from advgan_jax.oracles.noise import Noise, compare


class Oracle:
    """A model of which nothing is known but its answers.

    A query is an image that was answered, usably; those that a resumed run takes from
    the ledger are counted as they were when they were asked. Of a batch that failed,
    the images from the first without a usable answer on are no queries but `wasted`,
    and asked about again when the caller goes on. No other image is, unless the caller
    does so.

    Attributes:
      num_classes: K.
      batch_size: the most images that the model is asked about at once.
      budget: the most queries, or None.
      ledger: what was asked and answered.
      repeated: how often an image was asked about that had been asked about before.
      changed: how often of these the answer was another one, by more than rounding:
        the model is noisy.
      wasted: how many images were asked about and not answered usably, by this object.
      measured: how many were asked about by `measure_noise`, by this object.
    """

    def __init__(
        self,
        fn: Callable[[np.ndarray], Any],
        *,
        answers: str,
        num_classes: int,
        batch_size: int = 256,
        budget: int | None = None,
        cache: bool = False,
        ledger: Ledger | None = None,
        timeout: float | None = None,
    ):
        """Wraps a function.

        Args:
          fn: from numpy images, float32 `[B, H, W, C]` in [0, 1], to answers.
          answers: what these are: `probabilities` or `logits`, `[B, K]`, or `labels`,
            int `[B]`.
          num_classes: K.
          batch_size: the most images to ask about at once.
          budget: how many images may be asked about; None for no limit.
          cache: whether an image that was answered before is not asked about again.
          ledger: where to record; default in memory.
          timeout: seconds that a batch may take; None for no limit. What takes longer
            cannot be stopped and is left to end by itself.

        Raises:
          ValueError: for an unknown kind of answers, a number out of range, or a ledger
            of other answers.
          TypeError: if `fn` cannot be called.
        """
        check_kind(answers)
        if not callable(fn):
            raise TypeError(
                "`fn` must be a function from images [B, H, W, C] to answers, got "
                f"{type(fn).__name__}; give a model's method, `model.predict_proba`."
            )
        check_at_least("num_classes", num_classes, 2)
        check_at_least("batch_size", batch_size, 1)
        if budget is not None:
            check_at_least("budget", budget, 1)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"`timeout` must be above 0 seconds, got {timeout}.")
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.budget = budget
        self.ledger = Ledger() if ledger is None else ledger
        self._fn = fn
        self._kind = answers
        self._cache = cache
        self._timeout = timeout
        self.wasted = self.measured = 0
        self.ledger.attach(answers, num_classes)
        self.rewind(self.ledger.position)

    def measure_noise(self, num_images: int = 10) -> Noise:
        """Asks again about the first images that were asked about.

        That is counted in `measured` alone: `queries` and the ledger stay as they are.

        Args:
          num_images: how many; fewer if fewer were asked about, or no more may be.

        Returns:
          What has changed.

        Raises:
          OracleError: if the model fails.
          ValueError: if nothing was asked yet.
        """
        check_at_least("num_images", num_images, 0)
        images, before = (made[:num_images] for made in self.ledger.made())
        images = images[: self.remaining]
        parts = [np.zeros((0, self.num_classes), np.float32)]
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            parts.append(self._ask(batch, start // self.batch_size, record=False))
            self.measured += len(batch)
        after = np.concatenate(parts)
        return compare(before[: len(after)], after)

    @property
    def queries(self) -> int:
        """How many images were answered."""
        return self.ledger.position

    @property
    def remaining(self) -> int | None:
        """How many more may be asked about; None without a budget."""
        if self.budget is None:
            return None
        return max(0, self.budget - self.queries - self.measured)

    def rewind(self, queries: int) -> None:
        """Goes back to an earlier query, from where a resumed run repeats itself.

        Args:
          queries: how many were made there.

        Raises:
          ValueError: if so many were never made.
        """
        self.ledger.rewind(queries)
        self.repeated = self.changed = 0
        self._seen: dict[bytes, np.ndarray] = {}
        if queries:
            self._remember(*self.ledger.made())

    def __call__(
        self,
        images: np.ndarray,
        *,
        after_batch: Callable[[int], None] = lambda count: None,
    ) -> np.ndarray:
        """Asks about images.

        Args:
          images: `[N, H, W, C]`, uint8 or float32 in [0, 1].
          after_batch: called after each batch with its number of images. What it
            raises ends the call; the ledger keeps what was answered.

        Returns:
          Probabilities, float32 `[N, K]`: of logits the softmax, of labels one-hot.

        Raises:
          OracleError: if the model raises or takes too long, or answers in a wrong
            shape or with impossible values; names the batch.
          BudgetExhausted: if not all images may be asked about; has what was answered.
          TypeError: if the images are of a wrong dtype.
          ValueError: if they are of a wrong shape, or out of range.
        """
        images = to_float(np.asarray(images))
        check_images(images)
        names = [_name(image) for image in images] if self._cache else []
        waiting = self._unanswered(names) if self._cache else np.arange(len(images))
        parts = [np.zeros((0, self.num_classes), np.float32)]
        for start in range(0, len(waiting), self.batch_size):
            left = self.batch_size if self.remaining is None else self.remaining
            rows = waiting[start : start + self.batch_size][:left]
            if len(rows):
                parts.append(self._answer(images[rows], start // self.batch_size))
                after_batch(len(rows))
            if len(rows) < min(self.batch_size, len(waiting) - start):
                answered = self._look_up(names) if names else np.concatenate(parts)
                raise BudgetExhausted(answered, len(images), self.budget)
        return self._look_up(names) if names else np.concatenate(parts)

    def _unanswered(self, names: list[bytes]) -> np.ndarray:
        """Rows of the images that the cache does not have, each image once."""
        first = {}
        for row, name in enumerate(names):
            if name not in self._seen:
                first.setdefault(name, row)
        return np.asarray(list(first.values()), int)

    def _look_up(self, names: list[bytes]) -> np.ndarray:
        """Answers of the first images, up to one that has none."""
        found = []
        for name in names:
            if name not in self._seen:
                break
            found.append(self._seen[name])
        return np.reshape(found, (-1, self.num_classes)).astype(np.float32)

    def _answer(self, images: np.ndarray, batch: int) -> np.ndarray:
        """Answers from the ledger, as far as it goes, then from the model."""
        replayed = self.ledger.replay(images)
        if replayed is None:
            return self._ask(images, batch)
        done = len(replayed)
        self._remember(images[:done], replayed)
        if done == len(images):
            return replayed
        return np.concatenate([replayed, self._ask(images[done:], batch)])

    def _ask(
        self, images: np.ndarray, batch: int, *, record: bool = True
    ) -> np.ndarray:
        try:
            answers = self._usable(images)
        except Exception as error:
            known = isinstance(error, UnusableAnswer)
            reason = str(error) if known else f"it raised {error!r}"
            if record and known and len(error.usable):
                self._record(images, error.usable)
            wasted = len(images) - (len(error.usable) if known else 0)
            self.wasted += wasted
            raise OracleError(
                f"The model failed on batch {batch} ({len(images)} images): {reason} "
                f"The {self.queries} queries answered before are recorded, {wasted} "
                "images were asked about in vain; mend the model, then go on from "
                "there.",
                batch=batch,
                queries=self.queries,
                wasted=wasted,
            ) from error
        if record:
            self._record(images, answers)
        return answers

    def _usable(self, images: np.ndarray) -> np.ndarray:
        # A copy: what the model does to its input must not reach the ledger.
        raw = self._call(images.copy())
        return to_probabilities(raw, self._kind, len(images), self.num_classes)

    def _record(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Records the answers to the first of some images."""
        images = images[: len(answers)]
        self.ledger.append(images, answers)
        self._remember(images, answers)

    def _call(self, images: np.ndarray) -> Any:
        if self._timeout is None:
            return self._fn(images)
        outcome = {}

        def work():
            try:
                outcome["answers"] = self._fn(images)
            except BaseException as error:
                outcome["error"] = error

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(self._timeout)
        if worker.is_alive():
            raise TimeoutError(f"no answer within `timeout` = {self._timeout} s")
        if "error" in outcome:
            raise outcome["error"]
        return outcome["answers"]

    def _remember(self, images: np.ndarray, answers: np.ndarray) -> None:
        for image, answer in zip(images, answers, strict=True):
            before = self._seen.setdefault(_name(image), answer)
            if before is not answer:
                self.repeated += 1
                self.changed += compare(before[None], answer[None]).changed


def _name(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
