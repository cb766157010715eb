"""Do adversarial images that were made for one model fool another?"""

from collections.abc import Mapping

import numpy as np

from advgan_jax.evaluation.inputs import make_task, predict_all
from advgan_jax.types import Bounds, LogitsFn


def transfer_matrix(
    models: Mapping[str, LogitsFn],
    adversarial: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
) -> np.ndarray:
    """Error rates of each model on images that were made for each other one.

    Args:
      models: the R models in the columns, by name.
      adversarial: the S sets of images in the rows, by the name of the model they were
        made for; `[N, H, W, C]`, float32 within `bounds` or uint8. A row of the clean
        images shows what errors there were before.
      labels: int `[N]`, true classes, the same for all sets.
      batch_size: how many images at a time.
      bounds: the least and the greatest pixel value.

    Returns:
      float64 `[S, R]`, the share of wrongly classified images, in the mappings' order.

    Raises:
      TypeError: for wrong dtypes.
      ValueError: for wrong shapes, pixels or classes, or if a mapping is empty.
    """
    if not models or not adversarial:
        raise ValueError(
            "`models` and `adversarial` must have at least one entry, got "
            f"{len(models)} and {len(adversarial)}."
        )
    rates = np.empty((len(adversarial), len(models)))
    for row, (source, images) in enumerate(adversarial.items()):
        for column, (name, logits_fn) in enumerate(models.items()):
            try:
                task = make_task(
                    logits_fn, images, labels, bounds=bounds, batch_size=batch_size
                )
                rates[row, column] = np.mean(predict_all(task) != task.labels)
            except (TypeError, ValueError) as error:
                error.add_note(f"In images {source!r} shown to model {name!r}.")
                raise
    return rates
