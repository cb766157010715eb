"""Call a model within a time limit, and collect its answers as they arrive."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from advgan_jax.checks import check_integer
from advgan_jax.oracles.answers import UnusableAnswer

Record = Callable[[np.ndarray, np.ndarray], None]  # of images and answers


class Exchange(Protocol):
    """Send images to a model and receive its answers."""

    def __call__(
        self,
        images: np.ndarray,
        send: Callable[[int], None],
        receive: Callable[[np.ndarray, Any], None],
    ) -> None:
        """Send images; `UnusableAnswer` with the reason if the model fails.

        Args:
          images: `[B, ...]`, which the model may change.
          send: called with a number of images before they are sent, and with a
            negative number to undo the count if sending failed. It raises if the budget
            is too small.
          receive: called with rows and the model's answers to these images.
        """
        ...


def check_budget(budget: Any) -> None:
    """Check a number of images, or None for no limit."""
    if budget is not None:
        check_integer("budget", budget, 1)


def check_timeout(timeout: Any, *, optional: bool = True) -> None:
    """Check a time limit: seconds that a thread can wait, or None if `optional`."""
    if timeout is None and optional:
        return
    real = isinstance(timeout, int | float | np.integer | np.floating)
    if not real or isinstance(timeout, bool):
        raise TypeError(f"`timeout` must be a number of seconds, got {timeout!r}.")
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(
            f"`timeout` must be above 0 seconds and finite, got {timeout}"
            f"{'; omit it for no limit' if optional else ''}."
        )


def one_call(fn: Callable[[np.ndarray], Any], timeout: float | None) -> Exchange:
    """Return the exchange that calls a function with all images at once."""

    def _exchange(images, send, receive):
        send(len(images))
        try:
            raw = _call_within(fn, images, timeout)
        except Exception as error:
            raise UnusableAnswer(f"it raised {error!r}") from error
        receive(np.arange(len(images)), raw)

    return _exchange


def _call_within(
    fn: Callable[[np.ndarray], Any], images: np.ndarray, timeout: float | None
) -> Any:
    """Call a model; `TimeoutError` if it takes more than `timeout` seconds."""
    if timeout is None:
        return fn(images)
    outcome: dict[str, Any] = {}

    def _work() -> None:
        try:
            outcome["answers"] = fn(images)
        except BaseException as error:
            outcome["error"] = error

    worker = threading.Thread(target=_work, daemon=True)
    worker.start()
    worker.join(timeout)
    if worker.is_alive():
        raise TimeoutError(f"no answer within `timeout` = {timeout} s")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["answers"]


class Incoming:
    """The answers to one batch, in any order.

    Queries are recorded in order. So an answer that overtakes another one is recorded
    as spare until all before it have come.

    Attributes:
      answers: usable answers by row.
    """

    def __init__(
        self,
        images: np.ndarray,
        convert: Callable[[Any, int], np.ndarray],
        answers: Mapping[int, np.ndarray],
        append: Record,
        keep_spare: Record,
    ) -> None:
        """Begin with the spare `answers` to some rows, and record them if in order.

        `convert(raw, count)` returns the answers to `count` images, or raises
        `UnusableAnswer`.
        """
        self.answers: dict[int, np.ndarray] = dict(answers)
        self._images, self._convert = images, convert
        self._append, self._keep_spare, self._recorded = append, keep_spare, 0
        self._record(np.zeros(0, int), np.zeros((0, 0), np.float32))

    @property
    def missing(self) -> np.ndarray:
        """Rows without an answer."""
        rows = range(len(self._images))
        return np.asarray([row for row in rows if row not in self.answers], int)

    def receive(self, rows: np.ndarray, raw: Any) -> None:
        """Convert the answers to some rows and record them.

        `UnusableAnswer` if one is invalid; those before it are recorded.
        """
        try:
            usable = self._convert(raw, len(rows))
        except UnusableAnswer as error:
            self._record(rows[: len(error.usable)], error.usable)
            raise
        self._record(rows, usable)

    def in_order(self) -> np.ndarray:
        """Return the answers that are recorded in order, `[M, K]`."""
        rows = [self.answers[row] for row in range(self._recorded)]
        return np.asarray(rows, np.float32)

    def _record(self, rows: np.ndarray, answers: np.ndarray) -> None:
        self.answers.update(zip(rows.tolist(), answers, strict=True))
        start = self._recorded
        while self._recorded in self.answers:
            self._recorded += 1
        late = rows >= self._recorded
        if late.any():
            self._keep_spare(self._images[rows[late]], answers[late])
        if self._recorded > start:
            ready = [self.answers[row] for row in range(start, self._recorded)]
            self._append(self._images[start : self._recorded], np.stack(ready))
