"""Measure whether adversarial images made for one model fool another."""

from collections.abc import Mapping

import numpy as np

from advgan_jax.checks import check_at_least, check_seed, to_float
from advgan_jax.evaluation._task import make_task, predict_clean
from advgan_jax.types import Bounds, LogitsFn


def transfer_matrix(
    models: Mapping[str, LogitsFn],
    adversarial: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    batch_size: int = 500,
    bounds: Bounds = (0.0, 1.0),
) -> np.ndarray:
    """Return the error rate of each model on images made for each model.

    Args:
      models: the R models in the columns, by name.
      adversarial: the S sets of images in the rows, by the name of the model they were
        made for; `[N, H, W, C]`, floats within `bounds` or uint8.
      labels: int `[N]`, true classes, the same for all sets.
      batch_size: how many images to classify at a time.
      bounds: the least and the greatest pixel value.

    Returns:
      float64 `[S, R]`, the share of misclassified images, in the order of the mappings.

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
                task = make_task(logits_fn, images, labels, None, batch_size, bounds)
                rates[row, column] = np.mean(predict_clean(task) != task.labels)
            except (TypeError, ValueError) as error:
                error.add_note(f"In images {source!r} shown to model {name!r}.")
                raise
    return rates


def rescale_perturbations(
    images: np.ndarray, adversarial: np.ndarray, rms_distortion: float
) -> np.ndarray:
    r"""Scale all perturbations to one size without clipping pixels, in float32.

    .. math:: x + s \, (x' - x), \qquad s = \sigma \sqrt n / \lVert x' - x \rVert_2

    Szegedy et al. print a factor without the root of the number of pixels `n`, which
    would shrink the perturbations; their text says "stddev 0.1".

    Args:
      images: clean, `[N, ...]`, floats, or uint8 that mean k/255.
      adversarial: perturbed, the same shape; unperturbed images do not change.
      rms_distortion: `sigma`, the root of the mean square over the pixels.

    Raises:
      ValueError: if the shapes differ, or the size is negative.
    """
    check_at_least("rms_distortion", rms_distortion, 0)
    images, adversarial = (to_float(np.asarray(x)) for x in (images, adversarial))
    if np.shape(images) != np.shape(adversarial):
        raise ValueError(
            f"`adversarial` must have the shape {list(np.shape(images))} of `images`, "
            f"got {list(np.shape(adversarial))}."
        )
    change = np.subtract(adversarial, images, dtype=np.float64)
    axes = tuple(range(1, change.ndim))
    size = np.sqrt(np.mean(change**2, axis=axes, keepdims=True))
    scale = np.divide(rms_distortion, size, out=np.zeros_like(size), where=size > 0)
    return (images + scale * change).astype(np.float32)


def add_noise(images: np.ndarray, rms_distortion: float, *, seed: int) -> np.ndarray:
    """Add Gaussian noise of standard deviation `rms_distortion` without clipping.

    Images are `[N, ...]`, floats, or uint8 that mean k/255; the result is float32. A
    negative deviation or seed raises `ValueError`.
    """
    check_at_least("rms_distortion", rms_distortion, 0)
    check_seed(seed)
    images = to_float(np.asarray(images))
    noise = np.random.default_rng(seed).normal(0, rms_distortion, images.shape)
    return (images + noise).astype(np.float32)
