"""Errors of an oracle: the model failed, or the budget is exhausted."""

import numpy as np


class OracleError(RuntimeError):
    """The model raised, took too long, or gave an unusable answer.

    Attributes:
      batch: index of the failed batch in the call, from 0; None if no batch failed.
      queries: number of images answered so far, in all calls.
      wasted: number of images in the batch that were sent and not answered usably.
    """

    def __init__(
        self, message: str, *, batch: int | None, queries: int, wasted: int
    ) -> None:
        """Store the message and the attributes."""
        super().__init__(message)
        self.batch = batch
        self.queries = queries
        self.wasted = wasted


class BudgetExhausted(RuntimeError):
    """No more queries are allowed.

    Attributes:
      answers: float32 `[M, K]`, for the first M images of the call.
      budget: the largest allowed number of queries.
    """

    def __init__(self, answers: np.ndarray, num_images: int, budget: int) -> None:
        """Store the answers to the first of `num_images` images."""
        super().__init__(
            f"The budget of {budget} queries is exhausted: of {num_images} images only "
            f"the first {len(answers)} were answered (`answers` has them); raise "
            "`budget`, or continue with the answers you have."
        )
        self.answers = answers
        self.budget = budget
