"""Madry's MNIST challenge: what a file of adversarial images must be.

Stricter than the challenge's own script, which lets every pixel be 0.0001 off, and
clearer: the first image that breaks a rule is named. That script also ends with a
warning where images are missing; here the shapes must be equal.

References:
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083) and the challenge's rules
  (https://github.com/MadryLab/mnist_challenge).
"""

import math
from typing import Any

import numpy as np

from advgan_jax.checks import check_at_least
from advgan_jax.data import to_float

EPSILON = 0.3
# Sums of float32 pixels, and pixels that were scaled to [0, 1] in another way, differ
# by less than one step of float32 at 1.
ROUNDING = 2.0**-23


def check_submission(
    adversarial: Any, images: np.ndarray, *, epsilon: float = EPSILON
) -> np.ndarray:
    r"""Checks adversarial images of the whole test set by the challenge's rules.

    .. math:: x_A \in [0, 1], \qquad
      \lVert x_A - x \rVert_\infty \le \mathrm{float32}(\epsilon)

    with the distance taken in double precision, up to `ROUNDING`.

    Args:
      adversarial: what was handed in: float32 `[N, H * W * C]`, `[N, H, W, C]` or, of
        grey images, `[N, H, W]`.
      images: the clean test images in their order, `[N, H, W, C]`, uint8 or float32.
      epsilon: the bound, in pixel units.

    Returns:
      The adversarial images as `[N, H, W, C]`.

    Raises:
      TypeError: if they are not a float32 array.
      ValueError: for a wrong shape, or naming the first image with a pixel that is not
        finite, out of [0, 1], or too far away.
    """
    check_at_least("epsilon", epsilon, 0)
    images = to_float(np.asarray(images))
    adversarial = _shaped(adversarial, images.shape)
    finite = np.isfinite(adversarial)
    _refuse(~finite, adversarial, "be finite numbers")
    inside = (adversarial >= 0) & (adversarial <= 1)
    _refuse(~inside, adversarial, "lie in [0, 1]")
    distance = np.abs(np.subtract(adversarial, images, dtype=np.float64))
    limit = float(np.float32(epsilon)) + ROUNDING
    wanted = f"differ from the clean ones by at most {epsilon:g}"
    _refuse(distance > limit, distance, wanted)
    return adversarial


def _shaped(adversarial: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(adversarial, np.ndarray) or adversarial.dtype != np.float32:
        got = getattr(adversarial, "dtype", type(adversarial).__name__)
        raise TypeError(f"Adversarial images must be a float32 array, got {got}.")
    known = [shape, (shape[0], math.prod(shape[1:]))]
    known += [shape[:-1]] if shape[-1] == 1 else []
    if adversarial.shape not in known:
        raise ValueError(
            "Adversarial images must have one of the shapes "
            f"{', '.join(str(list(one)) for one in known)}, in the order of the test "
            f"set, got {list(adversarial.shape)}."
        )
    return adversarial.reshape(shape)


def _refuse(broken: np.ndarray, values: np.ndarray, rule: str) -> None:
    """Raises `ValueError` if a pixel breaks a rule; names the first such image."""
    by_image = broken.reshape(len(broken), -1)
    bad = np.flatnonzero(by_image.any(axis=1))
    if bad.size:
        first = int(bad[0])
        value = values[first].ravel()[np.argmax(by_image[first])]
        raise ValueError(
            f"Adversarial images must {rule}, image {first} has {value:.8g} at its "
            f"first such pixel; {bad.size} of {len(broken)} images break this rule."
        )
