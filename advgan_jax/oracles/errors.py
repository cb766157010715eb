"""The errors that end a call of an oracle."""

import numpy as np


class OracleError(RuntimeError):
    """The model raised an error, took too long, or returned an unusable answer.

    Attributes:
      batch: index of the failed batch in the call, from 0; None if no batch failed.
      queries: number of images answered so far, in all calls.
      wasted: number of images in the batch without a usable answer.
    """

    def __init__(
        self, message: str, *, batch: int | None, queries: int, wasted: int
    ) -> None:
        super().__init__(message)
        self.batch = batch
        self.queries = queries
        self.wasted = wasted


class BudgetExhausted(RuntimeError):
    """The budget of queries is exhausted.

    Attributes:
      answers: float32 `[M, K]`, the answers to the first M images of the call.
      budget: the largest allowed number of queries.
    """

    def __init__(self, answers: np.ndarray, num_images: int, budget: int) -> None:
        super().__init__(
            f"The budget of {budget} queries is exhausted: of {num_images} images only "
            f"the first {len(answers)} were answered (see `answers`); raise "
            "`budget`, or continue with the answers you have."
        )
        self.answers = answers
        self.budget = budget
