"""Start a search at the images of a generator."""

from typing import Any

import jax
import numpy as np

from advgan_jax import attacks
from advgan_jax.blackbox.pool import OracleResult, attack_oracle
from advgan_jax.checks import as_images, check_integer
from advgan_jax.oracles import Oracle
from advgan_jax.types import Array, Attack

_SEARCHES = ("square", "signhunter")


def hybrid(
    oracle: Oracle,
    generator: Attack,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    key: Array | None = None,
    restart_after: int | None = 100,
    targeted: bool = False,
    levels: int | None = None,
    progress: bool = False,
) -> OracleResult:
    """Attack images of a black box: first by a generator, then by a search.

    The image of the generator is the first query. Where it succeeds, it is the only
    one. Elsewhere the search continues from it. If it has not succeeded after
    `restart_after` queries, it starts again at the clean image, with the queries that
    remain.

    Args:
      oracle: the black box, see `attack_oracle`.
      generator: what `train_blackbox` or another training returned, with any bounds;
        or an object with a method `perturb` from images in [0, 1] to adversarial
        images. A conditional one aims at the wanted classes.
      attack: `square` or `signhunter` of `attacks.make_attack`.
      images: clean images `[N, H, W, C]`, uint8 or floats in [0, 1].
      labels: int `[N]`, the true classes, or the wanted ones when `targeted`.
      key: typed key, for attacks that draw random numbers.
      restart_after: number of queries for an image; None never restarts. On MNIST,
        SignHunter needs fewer queries with 10, Square Attack with 100. Square Attack
        plans its squares for each part alone.
      targeted: whether `labels` are wanted classes.
      levels: of the images that are sent, see `attack_oracle`.
      progress: whether to show it, by a bar on terminals or by lines.

    Returns:
      As `attack_oracle`. Queries with which the generator was trained are not in it.

    Raises:
      TypeError: for a generator without `perturb`; see also `attack_oracle`.
      ValueError: for another attack; see also `attack_oracle`.
    """
    name = getattr(attack, "name", None)
    if name not in _SEARCHES:
        raise ValueError(
            f"`attack` must be one of {', '.join(_SEARCHES)}, which first query the "
            f"generator's image, got {name!r}; see `attack_oracle` for other attacks."
        )
    clean, labels = np.asarray(as_images(images)), np.asarray(labels)
    starts = starts_of(generator, clean, labels if targeted else None)
    shared: Any = {"targeted": targeted, "levels": levels, "progress": progress}
    most = attacks.query_method(attack, targeted=targeted).num_queries
    limit = most if restart_after is None else restart_after
    check_integer("restart_after", limit, 1)
    limit = min(limit, most)
    found = attack_oracle(
        *(oracle, _with_queries(attack, limit), clean, labels),
        starts=starts,
        key=key,
        **shared,
    )
    left = np.flatnonzero(found.finished & ~found.success)
    if limit == most or not len(left):
        return found
    again = None if key is None else jax.random.fold_in(key, len(clean))
    attack = _with_queries(attack, most - limit)
    second = attack_oracle(
        oracle, attack, clean[left], labels[left], key=again, **shared
    )
    found.finished[left] = second.finished
    found.queries[left] += second.queries
    # Without a query, the second result is the clean image.
    rows = second.queries > 0
    found.images[left[rows]] = second.images[rows]
    found.success[left[rows]] = second.success[rows]
    return found


def starts_of(
    generator: Any, images: np.ndarray, wanted: np.ndarray | None = None
) -> np.ndarray:
    """Return the adversarial images of a generator for images in [0, 1].

    A conditional generator aims at the `wanted` classes.
    """
    perturb = getattr(generator, "perturb", None)
    if perturb is None:
        raise TypeError(
            "`generator` must have a method `perturb`, as a `TrainedGenerator` has, "
            f"got {type(generator).__name__}."
        )
    own: dict[str, Any] = {}
    if hasattr(generator, "bounds"):  # of its training, which images have by default
        own["bounds"] = (0.0, 1.0)
    if getattr(generator, "conditional", False):
        own["labels"] = wanted
    return np.asarray(perturb(images, **own))


def _with_queries(attack: Any, num_queries: int) -> Attack:
    """Return the same attack with another number of queries."""
    hyperparams = {**attack.hyperparams, "num_queries": num_queries}
    return attacks.make_attack(attack.name, **hyperparams)
