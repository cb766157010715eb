"""Send images to a model, record the answers, and check whose answers a ledger has."""

import logging
from collections.abc import Callable

import numpy as np

from advgan_jax.oracles._calls import Exchange, Incoming, Record
from advgan_jax.oracles.answers import UnusableAnswer, to_probabilities
from advgan_jax.oracles.errors import OracleError
from advgan_jax.oracles.ledger import Ledger
from advgan_jax.oracles.noise import another_model, compare, least_certain

_log = logging.getLogger(__name__)


class _BudgetSpent(UnusableAnswer):
    """The budget allows no further try."""


class Sender:
    """Send batches of images to a model and record them in a ledger.

    `budget` and `batch_size` are those of an oracle, and may change.
    """

    def __init__(
        self,
        exchange: Exchange,
        repeatable: Callable[[np.ndarray], np.ndarray],
        ledger: Ledger,
        kind: str,
        num_classes: int,
        batch_size: int,
        budget: int | None,
    ) -> None:
        self.budget, self.batch_size = budget, batch_size
        self._exchange, self._ledger = exchange, ledger
        self._repeatable = repeatable
        self._kind, self._num_classes = kind, num_classes

    @property
    def free(self) -> float:
        """How many images may still be sent."""
        if self.budget is None:
            return float("inf")
        return max(0, self.budget - self._ledger.sent)

    def ask(self, images: np.ndarray, batch: int) -> np.ndarray:
        """Return the answers `[B, K]` to new queries, and record them.

        Fewer if tries that failed have spent the budget. If the model fails,
        `OracleError` after all usable answers were recorded.
        """
        ledger = self._ledger
        spares = ledger.spares(images)
        return self._send(images, batch, spares, ledger.append, ledger.keep_spare)

    def repeat(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Send recorded images again; return their rows and new answers.

        They are the first `count` of `rows` that can be sent as before, or as many as
        the budget allows.
        """
        images, _ = self._ledger.recorded()
        count = int(min(count, self.free))
        chosen = np.zeros(0, int)
        for start in range(0, len(rows), self.batch_size):
            if len(chosen) >= count:
                break
            some = rows[start : start + self.batch_size]
            chosen = np.append(chosen, some[self._repeatable(images[some])])
        chosen = chosen[:count]
        parts = [np.zeros((0, self._num_classes), np.float32)]
        for start in range(0, len(chosen), self.batch_size):
            some = chosen[start : start + self.batch_size]
            number = start // self.batch_size
            parts.append(self._send(images[some], number, {}, _ignore, _ignore))
            self._ledger.record_again(some[: len(parts[-1])], parts[-1])
            if len(parts[-1]) < len(some):
                break
        answers = np.concatenate(parts)
        return chosen[: len(answers)], answers

    def verify(self, count: int) -> None:
        """Send `count` recorded images again; reject a ledger of another model."""
        ledger = self._ledger
        _, recorded = ledger.recorded()
        earlier = [compare(recorded[rows], seen) for rows, seen in ledger.again]
        rows, now = self.repeat(least_certain(recorded, count), count)
        noise = compare(recorded[rows], now)
        if noise.changed:
            # A noisy model contradicts itself too; another one only the ledger.
            again = self.repeat(rows, count)[1]
            own = compare(now[: len(again)], again)
            noisy = any(other.changed for other in (*earlier, own))
            if not noisy or 2 * noise.other_class > noise.images:
                raise another_model(ledger.name, noise)
        elif not noise.images:
            _log.warning(
                "%s is used without a check that its answers are those of this model: "
                "the budget of %s images is spent, or no image can be sent as before.",
                ledger.name,
                self.budget,
            )

    def _send(self, images, batch, spares, append: Record, keep: Record) -> np.ndarray:
        """Send the images without a spare answer; return all answers.

        If the budget allows no further try, those before the first that is missing.
        """
        incoming = Incoming(images, self._convert, spares, append, keep)
        missing, wasted = incoming.missing, self._ledger.wasted
        try:
            if len(missing):
                # The copy protects the ledger from a model that changes its input.
                self._exchange(
                    images[missing].copy(),
                    self._count_as(images.shape[1:]),
                    lambda rows, raw: incoming.receive(missing[rows], raw),
                )
        except _BudgetSpent:
            _log.warning(
                "%s images were sent without a usable answer, and spent the budget.",
                self._ledger.wasted - wasted,
            )
        except UnusableAnswer as error:
            wasted, queries = self._ledger.wasted - wasted, self._ledger.position
            raise OracleError(
                f"The model failed on batch {batch} ({len(images)} images): {error} "
                f"The {queries} queries answered before are recorded, {wasted} "
                "images were sent without a usable answer; repair the model and call "
                "again.",
                batch=batch,
                queries=queries,
                wasted=wasted,
            ) from (error.__cause__ or error)
        return incoming.in_order().reshape(-1, self._num_classes)

    def _convert(self, raw, count: int) -> np.ndarray:
        return to_probabilities(raw, self._kind, count, self._num_classes)

    def _count_as(self, image_shape: tuple[int, ...]) -> Callable[[int], None]:
        """Return the function that counts images before they are sent."""

        def _count(count: int) -> None:
            if count > self.free:
                raise _BudgetSpent(f"the budget of {self.budget} images is spent.")
            self._ledger.send(count, image_shape)

        return _count


def _ignore(images: np.ndarray, answers: np.ndarray) -> None:
    """Record nothing."""
