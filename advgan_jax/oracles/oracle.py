"""Query any function from images to answers as a black box, and count queries."""

import hashlib
import itertools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from advgan_jax.checks import SUM_TOLERANCE, check_at_least, check_images
from advgan_jax.data import to_float
from advgan_jax.oracles.answers import UnusableAnswer, check_kind, to_probabilities
from advgan_jax.oracles.errors import BudgetExhausted, OracleError
from advgan_jax.oracles.ledger import Ledger

# A probability may change by this much with the batch it is computed in.
_ROUNDING = SUM_TOLERANCE


class Noise(NamedTuple):
    """Differences between two answers to the same images."""

    images: int  # number of images
    changed: int  # number of them whose answer changed by more than rounding
    other_class: int  # number of them whose class changed
    largest: float  # the largest difference of two probabilities


class Oracle:
    """Wrap a black box: only its answers are visible.

    A query is an image with a usable answer. A resumed run reuses recorded answers,
    which count again as queries. If a batch fails, the images from the first unusable
    answer on count as `wasted`, not as queries. A caller that continues sends them
    again.

    Attributes:
      num_classes, batch_size, budget, ledger: the arguments of these names.
      repeated: number of queries of an image that had been queried before.
      changed: number of repeated queries whose answer changed by more than rounding;
        above 0 the model is noisy.
      wasted: number of images that this object sent without a usable answer.
      measured: number of images that `measure_noise` of this object sent.
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
    ) -> None:
        """Wrap a function.

        Args:
          fn: from numpy images, float32 `[B, H, W, C]` in [0, 1], to answers.
          answers: their kind: `probabilities` or `logits`, `[B, K]`, or `labels`, int
            `[B]`.
          num_classes: K.
          batch_size: the most images to send at once.
          budget: the most queries; None for no limit.
          cache: whether to reuse the answer to an image that was queried before.
          ledger: records the queries; by default in memory.
          timeout: the most seconds for a batch; None for no limit. A slower call cannot
            be stopped and continues in the background.

        Raises:
          ValueError: if the kind of answers is unknown, a number is out of range, or
            the ledger contains other answers.
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
        self.ledger: Ledger = Ledger() if ledger is None else ledger
        self._fn = fn
        self._kind = answers
        self._cache = cache
        self._timeout = timeout
        self.wasted: int = 0
        self.measured: int = 0
        self.repeated: int = 0
        self.changed: int = 0
        self.ledger.attach(answers, num_classes)
        self.rewind(self.ledger.position)

    def measure_noise(self, num_images: int = 10) -> Noise:
        """Query the first recorded images again and compare the answers.

        Only `measured` counts these images, `num_images` of them or as many as the
        ledger and the budget have. Raise `OracleError` if the model fails, and
        `ValueError` if no query has been made.
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
        return _compare(before[: len(after)], after)

    @property
    def queries(self) -> int:
        """Number of queries made."""
        return self.ledger.position

    @property
    def remaining(self) -> int | None:
        """Number of queries that remain in the budget; None without a budget."""
        if self.budget is None:
            return None
        return max(0, self.budget - self.queries - self.measured)

    def rewind(self, queries: int) -> None:
        """Return to an earlier number of queries; `ValueError` if fewer were made."""
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
        """Query images.

        Args:
          images: `[N, H, W, C]`, uint8 or float32 in [0, 1].
          after_batch: called after each batch with its number of images. If it raises,
            the call ends and the ledger keeps the answers.

        Returns:
          Probabilities, float32 `[N, K]`: the softmax of logits, one-hot for labels.

        Raises:
          OracleError: if the model raises, is too slow, or returns a wrong shape or
            impossible values; names the batch.
          BudgetExhausted: if the budget is too small; contains the answers.
          TypeError: if the images have a wrong dtype.
          ValueError: if the images have a wrong shape or are out of range.
        """
        images = to_float(np.asarray(images))
        check_images(images)
        names = [_name(image) for image in images] if self._cache else []
        waiting = self._unanswered(names) if self._cache else np.arange(len(images))
        parts = [np.zeros((0, self.num_classes), np.float32)]
        for start in range(0, len(waiting), self.batch_size):
            rows = waiting[start : start + self.batch_size][: self.remaining]
            if len(rows):
                parts.append(self._answer(images[rows], start // self.batch_size))
                after_batch(len(rows))
            incomplete = len(rows) < min(self.batch_size, len(waiting) - start)
            if incomplete and self.budget is not None:
                answered = self._look_up(names) if names else np.concatenate(parts)
                raise BudgetExhausted(answered, len(images), self.budget)
        return self._look_up(names) if names else np.concatenate(parts)

    def _unanswered(self, names: list[bytes]) -> np.ndarray:
        """Return the first row of each image that the cache lacks."""
        last_first = reversed(list(enumerate(names)))
        rows = {name: row for row, name in last_first if name not in self._seen}
        return np.asarray(sorted(rows.values()), int)

    def _look_up(self, names: list[bytes]) -> np.ndarray:
        """Return cached answers, up to the first image without one."""
        known = itertools.takewhile(self._seen.__contains__, names)
        found = [self._seen[name] for name in known]
        return np.reshape(found, (-1, self.num_classes)).astype(np.float32)

    def _answer(self, images: np.ndarray, batch: int) -> np.ndarray:
        """Return recorded answers, then those of the model to the remaining images."""
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
        """Return the model's answers; if it fails, record the usable ones and raise."""
        try:
            # A copy protects the ledger from a model that changes its input.
            raw = self._call(images.copy())
            answers = to_probabilities(raw, self._kind, len(images), self.num_classes)
        except Exception as error:
            known = error if isinstance(error, UnusableAnswer) else UnusableAnswer("")
            reason, usable = str(known) or f"it raised {error!r}", known.usable
            if record and len(usable):
                self._record(images, usable)
            wasted = len(images) - len(usable)
            self.wasted += wasted
            raise OracleError(
                f"The model failed on batch {batch} ({len(images)} images): {reason} "
                f"The {self.queries} queries answered before are recorded, {wasted} "
                "images were sent without a usable answer; repair the model and call "
                "again.",
                batch=batch,
                queries=self.queries,
                wasted=wasted,
            ) from error
        if record:
            self._record(images, answers)
        return answers

    def _record(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Record M answers to the first M images."""
        images = images[: len(answers)]
        self.ledger.append(images, answers)
        self._remember(images, answers)

    def _call(self, images: np.ndarray) -> Any:
        """Call the model; `TimeoutError` if it exceeds the time limit."""
        if self._timeout is None:
            return self._fn(images)
        outcome: dict[str, Any] = {}

        def _work() -> None:
            try:
                outcome["answers"] = self._fn(images)
            except BaseException as error:
                outcome["error"] = error

        worker = threading.Thread(target=_work, daemon=True)
        worker.start()
        worker.join(self._timeout)
        if worker.is_alive():
            raise TimeoutError(f"no answer within `timeout` = {self._timeout} s")
        if "error" in outcome:
            raise outcome["error"]
        return outcome["answers"]

    def _remember(self, images: np.ndarray, answers: np.ndarray) -> None:
        """Cache the answers; count repeated images and changed answers."""
        for image, answer in zip(images, answers, strict=True):
            before = self._seen.setdefault(_name(image), answer)
            if before is not answer:
                self.repeated += 1
                self.changed += _compare(before[None], answer[None]).changed


def _compare(before: np.ndarray, after: np.ndarray) -> Noise:
    """Compare two answers to each image, both `[B, K]` probabilities."""
    largest = np.abs(after - before).max(axis=1)
    return Noise(
        len(after),
        int((largest > _ROUNDING).sum()),
        int((after.argmax(axis=1) != before.argmax(axis=1)).sum()),
        float(largest.max(initial=0.0)),
    )


def _name(image: np.ndarray) -> bytes:
    """Return a digest of the pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
