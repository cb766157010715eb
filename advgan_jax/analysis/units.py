"""Compare single units with random directions by the images that activate them most.

The paper compares pictures and finds no difference. This module tests the claim: the
entropy of the classes is low if those images are of one class, and a permutation test
decides whether units and random directions differ in mean entropy.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 3.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from advgan_jax.analysis._layers import layer_values
from advgan_jax.checks import check_labels, check_seed, unknown_name


class DirectionsResult(NamedTuple):
    """Single units and random directions of one layer.

    `units` are the indices of D units. For each unit or direction, the images are the k
    that activate it most, best first, int `[D, k]`. The entropies are those of their
    classes in bits, `[D]`. The p-value is that of `permutation_test`.
    """

    units: np.ndarray
    unit_images: np.ndarray
    random_images: np.ndarray
    unit_entropy: np.ndarray
    random_entropy: np.ndarray
    p_value: float

    def summary(self) -> dict[str, Any]:
        """Return the numbers of a table's line: sizes, mean entropies, the p-value."""
        units, random = self.unit_entropy.mean(), self.random_entropy.mean()
        return {
            "directions": len(self.units),
            "images each": self.unit_images.shape[1],
            "entropy, units": float(units),
            "entropy, random": float(random),
            "difference": float(units - random),
            "p-value": self.p_value,
        }


def hidden_features(
    model: nn.Module,
    variables: Any,
    images: np.ndarray,
    layer: str,
    *,
    batch_size: int = 500,
) -> np.ndarray:
    """Return the input of a layer, float `[N, F]`: the units after their activation.

    Args:
      model: any Flax module that takes only images at inference.
      variables: its weights.
      images: `[N, H, W, C]`, floats, or uint8 that mean k/255.
      layer: name of the linear layer, for example `Dense_1`.
      batch_size: how many images to process at a time.

    Raises:
      ValueError: for an unknown layer; lists the known ones.
    """
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        values = layer_values(model, variables, batch)
        if layer not in values:
            raise unknown_name("layer", layer, values)
        parts.append(np.asarray(values[layer][0]).reshape(len(batch), -1))
    return np.concatenate(parts)


def compare_directions(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    seed: int,
    num_directions: int = 100,
    num_images: int = 8,
    num_permutations: int = 10_000,
) -> DirectionsResult:
    r"""Compare single units with random directions of the same space.

    .. math:: x' = \arg\max_x \langle \phi(x), v \rangle, \qquad
        v = e_i \text{ or } v \sim N(0, I)

    Units with one value for all images cannot rank images and are excluded.

    Args:
      features: `phi` of N images, `[N, F]`.
      labels: their classes, int `[N]`.
      num_classes: K.
      seed: seed of the choice of units, the directions and the permutations.
      num_directions: D; reduced to the number of units that vary.
      num_images: k, images for each direction.
      num_permutations: number of permutations of the test.

    Raises:
      TypeError: if the labels are not class ids.
      ValueError: if shapes disagree, or a number is out of range.
    """
    check_labels(labels, len(features), num_classes)
    check_seed(seed)
    if not 1 <= num_images <= len(features):
        raise ValueError(
            f"`num_images` must be from 1 to the {len(features)} images, got "
            f"{num_images}."
        )
    varying = np.flatnonzero(np.ptp(features, axis=0) > 0)
    if num_directions < 1 or not varying.size:
        raise ValueError(
            "`num_directions` must be at least 1 and a unit must vary, got "
            f"{num_directions} and {varying.size} such units."
        )
    generator = np.random.default_rng(seed)
    count = min(num_directions, varying.size)
    units = np.sort(generator.choice(varying, count, replace=False))
    random = generator.standard_normal((count, features.shape[1]))
    best = top_images(features[:, units], num_images)
    best_random = top_images(features @ random.T.astype(features.dtype), num_images)
    entropy, random_entropy = (
        class_entropy(labels[images], num_classes) for images in (best, best_random)
    )
    p = permutation_test(entropy, random_entropy, num_permutations, generator)
    return DirectionsResult(units, best, best_random, entropy, random_entropy, p)


def top_images(projections: np.ndarray, num_images: int) -> np.ndarray:
    """Return the k images with the largest projections on each direction, int `[D, k]`.

    The largest of the projections `[N, D]` comes first; of equal ones, the first image.
    """
    return np.argsort(-projections, axis=0, kind="stable")[:num_images].T


def class_entropy(classes: np.ndarray, num_classes: int) -> np.ndarray:
    r"""Return the entropy :math:`-\sum_c p_c \log_2 p_c` of each row of classes, `[D]`.

    Classes are int `[D, k]` in `[0, num_classes)`; the entropy is in bits.
    """
    counts = (classes[..., None] == np.arange(num_classes)).sum(axis=1)
    shares = counts / classes.shape[1]
    return -np.sum(shares * np.log2(np.where(shares > 0, shares, 1)), axis=1)


def permutation_test(
    a: np.ndarray, b: np.ndarray, num_permutations: int, generator: np.random.Generator
) -> float:
    """Test whether two samples have equal means, by random permutations.

    The p-value is two-sided. The given order counts as one more permutation, so the
    value is at least `1 / (num_permutations + 1)`.
    """
    both = np.concatenate([a, b])
    observed = abs(np.mean(a) - np.mean(b))
    # Sums in another order differ by rounding; equal splits must count.
    rounding = 1e-12 * np.max(np.abs(both))
    hits = 1
    for _ in range(num_permutations):
        shuffled = generator.permutation(both)
        gap = abs(np.mean(shuffled[: len(a)]) - np.mean(shuffled[len(a) :]))
        hits += gap >= observed - rounding
    return hits / (num_permutations + 1)
