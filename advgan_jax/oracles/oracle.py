"""Query any function from images to answers as a black box, and count queries."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from advgan_jax.checks import as_images, check_image_axes, check_integer
from advgan_jax.oracles._calls import check_budget, check_timeout, one_call
from advgan_jax.oracles._sender import Sender
from advgan_jax.oracles.answers import check_kind
from advgan_jax.oracles.errors import BudgetExhausted
from advgan_jax.oracles.ledger import Ledger, digest
from advgan_jax.oracles.noise import Noise, compare


class Oracle:
    """Wrap a black box: only its answers are visible.

    A query is an image with a usable answer. A resumed run reuses recorded answers,
    which count again. If a batch fails, the images from the first unusable
    answer on count as `wasted`, not as queries. A caller that continues sends them
    again. The ledger counts each image before it is sent, so a killed process loses no
    count. Threads that share an oracle take turns.

    Attributes:
      answers, num_classes, batch_size, ledger: the arguments of these names.
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
        name: str = "",
        probe: int | None = None,
    ) -> None:
        """Wrap a function.

        Args:
          fn: from numpy images, float32 `[B, H, W, C]` in [0, 1], to answers.
          answers: their kind: `probabilities` or `logits`, `[B, K]`, or `labels`, int
            `[B]`.
          num_classes: K.
          batch_size: the most images to send at once.
          budget: the most images to send in all, with answer or without, also in
            earlier processes that used the ledger; None for no limit.
          cache: whether to reuse the answer to an image that was queried before.
          ledger: records the queries; by default in memory.
          timeout: the most seconds for a batch; None for no limit. A slower call cannot
            be stopped and continues in the background.
          name: of the model; a ledger of another name is rejected.
          probe: number of recorded images to send again before the first use of an
            opened ledger, which is rejected if another model answered them. They count
            as `measured`. None means 3, or 30 of labels, which reveal less: a model
            that agrees on 90 % of the images is rejected in 96 % of the cases. With 0
            only the name is compared; give similar models different names.

        Raises:
          ValueError: if the kind of answers is unknown, a number is out of range, or
            the ledger belongs to another model.
          TypeError: if `fn` cannot be called or an argument has another type.
        """
        check_kind(answers)
        if not callable(fn):
            raise TypeError(
                "`fn` must be a function from images [B, H, W, C] to answers, got "
                f"{type(fn).__name__}; give a model's method, `model.predict_proba`."
            )
        check_integer("num_classes", num_classes, 2)
        check_integer("batch_size", batch_size, 1)
        probe = (30 if answers == "labels" else 3) if probe is None else probe
        check_integer("probe", probe, 0)
        check_budget(budget)
        check_timeout(timeout)
        ledger = Ledger() if ledger is None else ledger
        for label, value, kind in (
            ("cache", cache, bool),
            ("ledger", ledger, Ledger),
            ("name", name, str),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"`{label}` must be a {kind.__name__}, got {value!r}.")
        self.answers: str = answers
        self.num_classes: int = num_classes
        self.batch_size: int = batch_size
        self.ledger: Ledger = ledger
        self._cache, self._fn = cache, fn
        self._timeout = timeout
        self._sender = Sender(
            self._exchange,
            self._repeatable,
            ledger,
            answers,
            num_classes,
            batch_size,
            budget,
        )
        self._probe = probe if len(ledger) else 0
        self._lock = threading.RLock()
        ledger.attach(answers, num_classes, name)
        self.rewind(ledger.position)

    def measure_noise(self, num_images: int = 10) -> Noise:
        """Query the first recorded images again and compare the answers.

        These images, `num_images` of them or as many as the ledger and the budget have,
        are counted in `measured` and not in `queries`. Raise `OracleError` if the model
        fails, and `ValueError` if no query has been made.
        """
        check_integer("num_images", num_images, 0)
        with self._lock:
            answers = self.ledger.made()[1]
            rows, again = self._sender.repeat(np.arange(len(answers)), num_images)
            return compare(answers[rows], again)

    @property
    def budget(self) -> int | None:
        """The most images to send in all; may be set."""
        return self._sender.budget

    @budget.setter
    def budget(self, budget: int | None) -> None:
        """Check and set the budget."""
        check_budget(budget)
        self._sender.budget = budget

    @property
    def queries(self) -> int:
        """Number of queries made."""
        return self.ledger.position

    @property
    def wasted(self) -> int:
        """Number of images that were sent without a usable answer."""
        return self.ledger.wasted

    @property
    def measured(self) -> int:
        """Number of images that were sent again to measure noise or check the model."""
        return self.ledger.measured

    @property
    def repeated(self) -> int:
        """Number of queries of an image that had been queried before."""
        self._remember()
        return self._repeated

    @property
    def changed(self) -> int:
        """Number of repeated queries whose answer changed by more than rounding."""
        self._remember()
        return self._changed

    @property
    def remaining(self) -> int | None:
        """Number of queries that remain in the budget; None without a budget."""
        if self.budget is None:
            return None
        return max(0, self.budget - self.queries - self.measured - self.wasted)

    def rewind(self, queries: int) -> None:
        """Return to an earlier number of queries; `ValueError` if fewer were made."""
        check_integer("queries", queries, 0)
        with self._lock:
            self.ledger.rewind(queries)
            self._seen: dict[bytes, np.ndarray] = {}
            self._num_seen = self._repeated = self._changed = 0

    def __call__(
        self,
        images: np.ndarray,
        *,
        after_batch: Callable[[int], None] = lambda count: None,
    ) -> np.ndarray:
        """Query images.

        Args:
          images: `[N, H, W, C]`, uint8 or floats in [0, 1].
          after_batch: called after each batch with its number of images. If it raises,
            the call ends and the ledger keeps the answers.

        Returns:
          Probabilities, float32 `[N, K]`: the softmax of logits, one-hot for labels.

        Raises:
          OracleError: if the model raises, is too slow, or returns a wrong shape or
            impossible values; names the batch.
          BudgetExhausted: if the budget is too small; contains the answers.
          TypeError: if the images have a wrong dtype.
          ValueError: if the images have a wrong shape or are out of range, or another
            model answered the ledger's queries.
        """
        images = np.asarray(images)
        check_image_axes(images, warn=True)
        images = np.asarray(as_images(images)).astype(np.float32, copy=False)
        with self._lock:
            images = self._prepare(images)
            if self._probe:
                self._sender.verify(self._probe)
                self._probe = 0
            return self._query(images, after_batch)

    def _query(
        self, images: np.ndarray, after_batch: Callable[[int], None]
    ) -> np.ndarray:
        """Query in batches until all images are answered or the budget ends."""
        names = [digest(image) for image in images] if self._cache else []
        waiting = self._unanswered(names) if self._cache else np.arange(len(images))
        parts = [np.zeros((0, self.num_classes), np.float32)]
        for number, start in enumerate(range(0, len(waiting), self.batch_size)):
            rows = waiting[start : start + self.batch_size]
            allowed = self._allowed(images[rows])
            if allowed:
                parts.append(self._answer(images[rows[:allowed]], number))
                allowed = len(parts[-1])  # fewer if failed tries spent the budget
                after_batch(allowed)
            if allowed < len(rows) and self.budget is not None:
                answered = self._look_up(names) if names else np.concatenate(parts)
                raise BudgetExhausted(answered, len(images), self.budget)
        return self._look_up(names) if names else np.concatenate(parts)

    def _allowed(self, images: np.ndarray) -> int:
        """Return how many of the next images the budget allows, from the first on."""
        if self.budget is None or self.remaining is None:
            return len(images)
        recorded = len(self.ledger) - self.queries
        spare = self.ledger.spares(images[recorded:])
        new = [
            row >= recorded and row - recorded not in spare
            for row in range(len(images))
        ]
        free = np.cumsum(new) <= self._sender.free
        return min(self.remaining, int(free.sum()))

    def _unanswered(self, names: list[bytes]) -> np.ndarray:
        """Return the first row of each image that the cache lacks."""
        self._remember()
        last_first = reversed(list(enumerate(names)))
        rows = {name: row for row, name in last_first if name not in self._seen}
        return np.asarray(sorted(rows.values()), int)

    def _look_up(self, names: list[bytes]) -> np.ndarray:
        """Return cached answers, up to the first image without one."""
        self._remember()
        known = itertools.takewhile(self._seen.__contains__, names)
        found = [self._seen[name] for name in known]
        return np.reshape(found, (-1, self.num_classes)).astype(np.float32)

    def _answer(self, images: np.ndarray, batch: int) -> np.ndarray:
        """Return recorded answers, then those of the model to the remaining images."""
        replayed = self.ledger.replay(images)
        if replayed is None:
            return self._sender.ask(images, batch)
        done = len(replayed)
        if done == len(images):
            return replayed
        return np.concatenate([replayed, self._sender.ask(images[done:], batch)])

    def _prepare(self, images: np.ndarray) -> np.ndarray:
        """Return new images as the model will see them."""
        return images

    def _repeatable(self, images: np.ndarray) -> np.ndarray:
        """Return whether the model would see recorded images as before, bool `[B]`."""
        return np.ones(len(images), bool)

    def _exchange(
        self,
        images: np.ndarray,
        send: Callable[[int], None],
        receive: Callable[[np.ndarray, Any], None],
    ) -> None:
        """Send images to the model; see `Exchange`."""
        one_call(self._fn, self._timeout)(images, send, receive)

    def _remember(self) -> None:
        """Cache the answers to new queries; count repeated images and changed answers.

        Only the results need it, and it costs more than recording.
        """
        if self._num_seen == self.queries:
            return
        new = slice(self._num_seen, self.queries)
        for image, answer in zip(*(a[new] for a in self.ledger.made()), strict=True):
            name = digest(image)
            if name in self._seen:
                self._repeated += 1
                self._changed += compare(self._seen[name][None], answer[None]).changed
            else:
                self._seen[name] = answer.copy()  # a view would keep the whole array
        self._num_seen = self.queries
