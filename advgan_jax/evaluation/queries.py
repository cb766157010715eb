"""Count what adversarial images cost: queries for each image, and for each success."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.attacks import QUERY_ATTACKS, query_method
from advgan_jax.blackbox import hybrid
from advgan_jax.blackbox.hybrid import starts_of
from advgan_jax.checks import to_float
from advgan_jax.evaluation.evaluate import evaluate_adversarial
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.logits import as_function, check_logits_fn
from advgan_jax.oracles import from_logits_fn
from advgan_jax.types import Array, Attack, LogitsFn

# Attacks that pay for the training of a generator.
TRAINED = ("advgan", "hybrid")


class QueryCounts(NamedTuple):
    """Queries and success of an attack on each of N images.

    Attributes:
      queries: for each image, int `[N]`.
      success: bool `[N]`.
      paid: queries that were made before, for all images together: those with which a
        generator was trained.
      limit: the most queries for each image; None without one.
    """

    queries: np.ndarray
    success: np.ndarray
    paid: int = 0
    limit: int | None = None

    @property
    def total(self) -> int:
        """All queries together."""
        return self.paid + int(self.queries.sum())

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for `QueryCounts.of_json`."""
        lists = {"queries": self.queries.tolist(), "success": self.success.tolist()}
        return {**lists, "paid": self.paid, "limit": self.limit}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "QueryCounts":
        """Undo `to_json`; other keys are ignored."""
        queries, success = np.array(values["queries"]), np.array(values["success"])
        return cls(queries, success, values["paid"], values["limit"])

    def within(self, budgets: Sequence[int]) -> list[float]:
        """Return the share of images that succeed by at most so many queries each.

        Queries that were `paid` do not count here. NaN beyond the `limit`, where an
        attack that failed might have succeeded.
        """
        good, known = self.queries[self.success], math.inf
        if self.limit is not None and not self.success.all():
            known = self.limit
        shares = [
            float((good <= budget).sum() / len(self.success)) for budget in budgets
        ]
        pairs = zip(budgets, shares, strict=True)
        return [share if budget <= known else math.nan for budget, share in pairs]


class FrontierPoint(NamedTuple):
    """The cost of attacking so many images.

    Attributes:
      images: number of images attacked.
      cost: queries for each image on which the attack succeeds; infinite without any.
      measured: False beyond the number of images that were attacked, where mean cost
        and success rate are assumed to stay.
    """

    images: int
    cost: float
    measured: bool


def count_queries(
    logits_fn: LogitsFn,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    key: Array,
    batch_size: int = 500,
    keep: int = 0,
) -> tuple[Evaluation, QueryCounts]:
    """Attack a JAX model by queries, and count them.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      attack: one by queries, as `attacks.make_attack` returns it.
      images: `[N, H, W, C]`, uint8 or floats in [0, 1].
      labels: int `[N]`, true classes.
      key: typed key.
      batch_size: how many images to evaluate at a time.
      keep: see `evaluate_adversarial`.

    Returns:
      The evaluation of the adversarial images, and the counts of the correctly
      classified images alone: no attacker needs to attack the others.

    Raises:
      TypeError: for an attack that is not by queries.
    """
    search: Any = getattr(getattr(attack, "function", None), "search", None)
    if search is None:
        raise TypeError(
            f"`attack` must be one by queries, one of {sorted(QUERY_ATTACKS)}, as "
            f"`attacks.make_attack` returns it, got {attack!r}."
        )
    hyperparams: Any = getattr(attack, "hyperparams", {})
    found = jax.device_get(
        search(logits_fn, images, np.asarray(labels), key=key, **hyperparams)
    )
    evaluation = evaluate_adversarial(
        logits_fn, images, found.images, labels, batch_size=batch_size, keep=keep
    )
    limit = query_method(attack).num_queries
    return evaluation, counts_of(evaluation, found.queries, limit=limit)


def count_generator(
    logits_fn: LogitsFn,
    generator: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    search: Attack | None = None,
    restart_after: int | None = 100,
    paid: int = 0,
    answers: str = "probabilities",
    key: Array | None = None,
    batch_size: int = 500,
    keep: int = 0,
) -> tuple[Evaluation, QueryCounts]:
    """Attack a JAX model by a generator, and by a search where that fails.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      generator: with a method `perturb`, as a `TrainedGenerator` has.
      images: `[N, H, W, C]`, uint8 or floats in [0, 1].
      labels: int `[N]`, true classes.
      search: an attack that `blackbox.hybrid` takes; None: none, and no queries.
      restart_after: see `blackbox.hybrid`.
      paid: the queries with which the generator was trained.
      answers: what the search sees of the logits, see `oracles.from_logits_fn`.
      key: typed key of the search.
      batch_size: how many images to evaluate, or to send to the model, at a time.
      keep: see `evaluate_adversarial`.

    Returns:
      As `count_queries`.
    """
    pixels, limit = to_float(images), None
    if search is None:
        moved, queries = starts_of(generator, pixels), np.zeros(len(images), int)
    else:
        limit = query_method(search).num_queries
        classes = check_logits_fn(as_function(logits_fn), jnp.asarray(pixels[:1]))
        # A small batch: it is padded when few images are unfinished.
        fields: Any = {"num_classes": classes, "batch_size": min(batch_size, 100)}
        oracle = from_logits_fn(logits_fn, answers=answers, **fields)
        shown = (generator, search, images, labels)
        again: Any = {"restart_after": restart_after, "key": key}
        found = hybrid(oracle, *shown, **again, progress=True)
        moved, queries = found.images, found.queries
    evaluation = evaluate_adversarial(
        logits_fn, images, moved, labels, batch_size=batch_size, keep=keep
    )
    return evaluation, counts_of(evaluation, queries, paid=paid, limit=limit)


def counts_of(
    evaluation: Evaluation,
    queries: np.ndarray,
    *,
    paid: int = 0,
    limit: int | None = None,
) -> QueryCounts:
    """Return the counts of the correctly classified images of an evaluation."""
    counted = evaluation.counted("correct")
    success = evaluation.succeeded[counted]
    return QueryCounts(np.asarray(queries)[counted], success, paid, limit)


def frontier(counts: QueryCounts, numbers: Sequence[int]) -> list[FrontierPoint]:
    r"""Return the queries for each success against the number of images attacked.

    .. math:: c(n) = \frac{q_0 + \sum_{i \le n} q_i}{\sum_{i \le n} s_i}

    with `q_0` the queries that were paid before, `q` those of each image and `s` its
    success. Beyond the attacked images their means continue.

    Args:
      counts: of an attack.
      numbers: of images, at least 1 each.
    """
    points, attacked = [], len(counts.success)
    for number in numbers:
        first, scale = slice(number), max(1.0, number / max(attacked, 1))
        successes = counts.success[first].sum() * scale
        total = counts.paid + counts.queries[first].sum() * scale
        cost = float(total / successes) if successes else math.inf
        points.append(FrontierPoint(number, cost, number <= attacked))
    return points


def break_even(one: QueryCounts, other: QueryCounts) -> float:
    """Return from how many images on `one` costs fewer queries for each success.

    The mean costs and success rates of both are assumed to stay. Infinite if `one`
    never becomes cheaper, 0 if it always is.
    """
    if not one.success.any():
        return math.inf
    if not other.success.any():
        return 0.0
    ours, theirs = (c.queries.mean() / c.success.mean() for c in (one, other))
    paid = [c.paid / c.success.mean() for c in (one, other)]
    if paid[0] <= paid[1]:
        return 0.0 if ours <= theirs else math.inf
    return float((paid[0] - paid[1]) / (theirs - ours)) if ours < theirs else math.inf


def _pooled(found: Sequence[QueryCounts]) -> QueryCounts:
    """Return the counts of all seeds as one; each has paid the same."""
    queries, success, (paid, *_), (limit, *_) = zip(*found, strict=True)
    return QueryCounts(np.concatenate(queries), np.concatenate(success), paid, limit)


def summarize_queries(
    counts: Mapping[str, Sequence[QueryCounts]], budgets: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a line of a table for each attack.

    Args:
      counts: of each attack, one for each seed, on the same images.
      budgets: numbers of queries for an image.

    Returns:
      By column: success, mean (with its 95 % interval over the seeds, None for one
      seed) and median of the queries, queries in all, success within each budget, and
      the number of images from which on the attacks `advgan` and `hybrid` are cheaper.
      Success beyond the most queries of an attack that failed somewhere is None.
      Shares are the columns `success` and `within ...`.
    """
    lines = []
    for name, found in counts.items():
        means = np.array([one.queries.mean() for one in found])
        half = math.nan
        if len(found) > 1:
            from scipy import stats  # slow to import

            error = means.std(ddof=1) / math.sqrt(len(found))
            half = stats.t.ppf(0.975, len(found) - 1) * error
        low, high = (float(means.mean() + sign * half) for sign in (-1, 1))
        line: dict[str, Any] = {
            "attack": name,
            "success": float(np.mean([one.success.mean() for one in found])),
            "mean queries": float(means.mean()),
            "mean queries (low)": None if math.isnan(low) else low,
            "mean queries (high)": None if math.isnan(high) else high,
            "median queries": float(np.median([o.queries for o in found])),
            "queries in all": float(np.mean([one.total for one in found])),
        }
        within = np.mean([one.within(budgets) for one in found], axis=0)
        free = found[0].paid and not found[0].queries.any()
        for budget, share in zip(budgets, within, strict=True):
            unknown = free or math.isnan(share)
            line[f"within {budget:,}"] = None if unknown else float(share)
        for other in TRAINED:
            if other in counts:
                images = break_even(_pooled(counts[other]), _pooled(found))
                finite = math.isfinite(images) and name not in TRAINED
                line[f"{other} cheaper from"] = math.ceil(images) if finite else None
        lines.append(line)
    return lines
