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

    The image of the generator is the first query: its pixels for Square Attack, the
    corner of the ball in its direction for SignHunter. Where it succeeds, it is the
    only one. Elsewhere the search continues from it. If it has not succeeded after
    `restart_after` queries, it starts again at the clean image, with the queries that
    remain.

    Args:
      oracle: the black box, see `attack_oracle`.
      generator: what `train_blackbox` returned, or another function with a method
        `perturb` from images in [0, 1] to adversarial images.
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
    perturb = getattr(generator, "perturb", None)
    if perturb is None:
        raise TypeError(
            "`generator` must have a method `perturb`, as a `TrainedGenerator` has, "
            f"got {type(generator).__name__}."
        )
    clean = np.asarray(as_images(images))
    starts, labels = np.asarray(perturb(clean)), np.asarray(labels)
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
    for name in ("images", "success", "finished"):
        getattr(found, name)[left] = getattr(second, name)
    found.queries[left] += second.queries
    return found


def _with_queries(attack: Any, num_queries: int) -> Attack:
    """Return the same attack with another number of queries."""
    hyperparams = {**attack.hyperparams, "num_queries": num_queries}
    return attacks.make_attack(attack.name, **hyperparams)
