"""What can go wrong where a model is asked."""

import numpy as np


class OracleError(RuntimeError):
    """The model failed, took too long, or answered what cannot be meant.

    Attributes:
      batch: index of the batch in the call that failed, from 0; None where the
        failure is of no batch.
      queries: how many images have been answered, in all calls before and this one.
      wasted: how many images of the batch were asked about and not answered usably.
    """

    def __init__(self, message: str, *, batch: int | None, queries: int, wasted: int):
        """Keeps which batch it was.

        Args:
          message: expected, got, cure.
          batch: its index.
          queries: answered so far.
          wasted: asked about in vain.
        """
        super().__init__(message)
        self.batch = batch
        self.queries = queries
        self.wasted = wasted


class BudgetExhausted(RuntimeError):
    """No more queries are allowed.

    Attributes:
      answers: float32 `[M, K]`, of the first M images of the call.
      budget: how many images may be asked about.
    """

    def __init__(self, answers: np.ndarray, num_images: int, budget: int):
        """Keeps what was answered before the end.

        Args:
          answers: of the first images of the call.
          num_images: that were asked about in the call.
          budget: of the oracle.
        """
        super().__init__(
            f"The budget of {budget} queries is exhausted: of {num_images} images only "
            f"the first {len(answers)} were answered (`answers` has them); raise "
            "`budget`, or go on with what there is."
        )
        self.answers = answers
        self.budget = budget
