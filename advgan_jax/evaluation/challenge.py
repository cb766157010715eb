"""Madry's MNIST challenge: check a file of adversarial images by its rules.

The challenge's own script accepts a distance that is 0.0001 too large, and only warns
if images are missing. Here both are errors, which name the first wrong image.

References:
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083) and the challenge's rules
  (https://github.com/MadryLab/mnist_challenge).
"""

import math
import os
from typing import Any

import numpy as np

from advgan_jax.checks import check_at_least, largest_distance, to_float
from advgan_jax.files import read_npy, reading

EPSILON = 0.3


def check_submission(
    adversarial: Any, images: np.ndarray, *, epsilon: float = EPSILON
) -> np.ndarray:
    r"""Check adversarial images of the whole test set by the challenge's rules.

    .. math:: x_A \in [0, 1], \qquad
      \lVert x_A - x \rVert_\infty \le \mathrm{float32}(\epsilon)

    The distance is computed in double precision and may exceed the bound by the
    rounding that `checks.largest_distance` allows everywhere, :math:`2^{-23}`.

    Args:
      adversarial: float32 `[N, H * W * C]`, `[N, H, W, C]` or, for grey images,
        `[N, H, W]`.
      images: the clean test images in their order, `[N, H, W, C]`, uint8 or floats in
        [0, 1].
      epsilon: the bound, in pixel units.

    Returns:
      The adversarial images as `[N, H, W, C]`.

    Raises:
      TypeError: if they are not a float32 array.
      ValueError: for a wrong shape, or a pixel that breaks a rule.
    """
    check_at_least("epsilon", epsilon, 0)
    images = to_float(np.asarray(images))
    if not isinstance(adversarial, np.ndarray) or adversarial.dtype != np.float32:
        got = getattr(adversarial, "dtype", type(adversarial).__name__)
        raise TypeError(f"Adversarial images must be a float32 array, got {got}.")
    known = [images.shape, (len(images), math.prod(images.shape[1:]))]
    known += [images.shape[:-1]] if images.shape[-1] == 1 else []
    if adversarial.shape not in known:
        raise ValueError(
            "Adversarial images must have one of the shapes "
            f"{', '.join(str(list(one)) for one in known)}, in the order of the test "
            f"set, got {list(adversarial.shape)}."
        )
    adversarial = adversarial.reshape(images.shape)
    _check_rule(~np.isfinite(adversarial), adversarial, "be finite numbers")
    outside = (adversarial < 0) | (adversarial > 1)
    _check_rule(outside, adversarial, "lie in [0, 1]")
    distance = np.abs(np.subtract(adversarial, images, dtype=np.float64))
    wanted = f"differ from the clean ones by at most {epsilon:g}"
    _check_rule(distance > largest_distance(epsilon), distance, wanted)
    return adversarial


def load_submission(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an `.npy` file of adversarial images for `check_submission`.

    Raises:
      ValueError: if the file is not a complete array of numbers.
      OSError: if it cannot be read.
    """
    expected = "a complete .npy file of one array of numbers"
    with reading(path, expected, "write it with `numpy.save`"):
        return read_npy(path)


def _check_rule(broken: np.ndarray, values: np.ndarray, rule: str) -> None:
    """Raise `ValueError` if a pixel breaks a rule; name the first such image."""
    by_image = broken.reshape(len(broken), -1)
    bad = np.flatnonzero(by_image.any(axis=1))
    if bad.size:
        first = int(bad[0])
        value = values[first].ravel()[np.argmax(by_image[first])]
        raise ValueError(
            f"Adversarial images must {rule}, image {first} has {value:.8g} at its "
            f"first such pixel; {bad.size} of {len(broken)} images break this rule."
        )
