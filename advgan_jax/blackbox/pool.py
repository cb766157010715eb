"""Run an attack by queries against an oracle, many images side by side.

A pool of lanes has one size, so that its programs compile once. A lane whose image is
finished takes the next one, and only unfinished images are queried. The state of an
image follows from its key and the answers alone. So a resumed run repeats its
proposals, and the ledger answers those that were recorded.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import attacks, checks
from advgan_jax.cpu.compiling import compiler_options
from advgan_jax.numbers import distances
from advgan_jax.oracles import BudgetExhausted, Oracle
from advgan_jax.progress import progress as show_progress
from advgan_jax.types import Array, Attack


class OracleResult(NamedTuple):
    """The result of an attack on an oracle for each image.

    Attributes:
      images: float32 `[N, ...]`, adversarial images as the oracle saw them; where the
        attack failed, the best ones found.
      success: bool `[N]`, whether an answer showed that the attack succeeded. A step
        that the oracle's budget cut short does not count.
      queries: number of queries for each image, int `[N]`. Their sum is that of the
        oracle, unless its `cache` answers some.
      finished: bool `[N]`; False where the oracle's budget ended before the attack.
    """

    images: np.ndarray
    success: np.ndarray
    queries: np.ndarray
    finished: np.ndarray


class _Programs(NamedTuple):
    """The compiled steps of all lanes."""

    # (lanes, mask, images, labels, starts, key, rows) -> lanes
    begin: Callable[..., Any]
    ask: Callable[..., Any]  # lanes -> images
    tell: Callable[..., Any]  # (lanes, mask, images, logits) -> lanes


def attack_oracle(
    oracle: Oracle,
    attack: Attack,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    key: Array | None = None,
    targeted: bool = False,
    starts: np.ndarray | None = None,
    levels: int | None = None,
    progress: bool = False,
) -> OracleResult:
    """Attack images of a black box.

    Given the same answers, the proposals for an image are those of the same attack on
    a JAX model. They have the same bits, but for `bandits` and `hop_skip_jump`, whose
    sums may be rounded otherwise. The oracle also rounds logits to probabilities.

    To resume after a failure, repeat the call with the same `batch_size` and an oracle
    whose ledger has the same file, or after `oracle.rewind`. No answer that was
    recorded is queried again, but for the oracle's `probe`.

    Where a service sees an image within epsilon at a distance beyond it, as JPEG may
    cause, the answer counts as the worst of all. Answers that change between two
    queries of an image cause a warning, because a success may then be an accident; see
    `Oracle.measure_noise`.

    Args:
      oracle: the black box. Its `budget` bounds the queries in all, and its
        `batch_size` those at the same time.
      attack: one by queries, `attacks.make_attack('square', epsilon=0.3)`. Its
        `num_queries` bounds the queries for each image.
      images: clean images `[N, H, W, C]`, uint8 or floats in [0, 1].
      labels: int `[N]`, the true classes, or the wanted ones when `targeted`.
      key: typed key, for attacks that draw random numbers.
      targeted: whether `labels` are wanted classes.
      starts: for example the images of a generator, like `images`; all attacks but
        `simba` take them. Score attacks query them first, in the ball. RayS and
        HopSkipJump query the clean image before: RayS then the corner of the box in
        their direction, HopSkipJump the starts themselves.
      levels: number of grey levels of the images that are sent. Rounding keeps images
        within epsilon, see `attacks.quantize`. None: those of the oracle's encoding,
        256 for PNG and JPEG files, else no rounding.
      progress: whether to show it, by a bar on terminals or by lines.

    Returns:
      The images, their success, and the number of queries for each. If the budget of
      the oracle ends, some are not `finished`.

    Raises:
      TypeError: for an attack that is not by queries, or a wrong dtype.
      ValueError: for wrong shapes, pixels or classes; for an attack that needs scores
        on an oracle of labels; or if the ledger has other queries.
      OracleError: if the black box fails.
    """
    method = attacks.query_method(attack, targeted=targeted)
    images = np.asarray(checks.as_images(images)).astype(np.float32, copy=False)
    labels = np.asarray(labels)
    checks.check_labels(labels, len(images), oracle.num_classes)
    if method.random:
        checks.check_key("attack_oracle", key)
    if method.loss is not None and oracle.answers == "labels":
        raise ValueError(
            "This attack needs scores, but the oracle answers with labels; use an "
            "attack that needs classes only: `rays` or `hop_skip_jump`."
        )
    if starts is not None:
        starts = np.asarray(checks.as_images(starts, name="starts"))
        if starts.shape != images.shape:
            raise ValueError(
                f"`starts` must have the shape {list(images.shape)} of `images`, got "
                f"{list(starts.shape)}."
            )
    limit = np.inf
    if method.epsilon is not None:
        epsilon, pixels = float(method.epsilon), images[:1].size
        limit = checks.largest_distance(
            epsilon, (0.0, 1.0), norm=method.norm, num_pixels=pixels
        )
    problem = images, labels, starts
    programs = _compile(attack, targeted)
    levels = getattr(oracle, "levels", None) if levels is None else levels
    pool = _Pool(oracle, method, programs, problem, key, limit, levels)
    done, changed = 0, oracle.changed
    with show_progress(len(images), "attack", shown=progress) as update:
        while pool.take_images():
            pool.advance()
            update(int(pool.finished.sum()) - done)
            done = int(pool.finished.sum())
    if oracle.changed > changed:
        warnings.warn(
            f"The answers to {oracle.changed - changed} repeated queries changed, so a "
            "success may be an accident; query adversarial images again before you "
            "count them.",
            stacklevel=2,
        )
    return pool.result()


class _Pool:
    """Lanes of an attack, and the results so far."""

    def __init__(
        self,
        oracle: Oracle,
        method: attacks.QueryMethod,
        programs: _Programs,
        problem: tuple[np.ndarray, np.ndarray, np.ndarray | None],
        key: Array | None,
        limit: float,
        levels: int | None,
    ) -> None:
        self._oracle, self._method, self._limit = oracle, method, limit
        self._images, self._labels, self._starts = problem
        self._levels, images = levels, self._images
        self._key = jax.random.key(0) if key is None else key
        self._programs = programs
        count = max(1, min(len(images), oracle.batch_size // method.num_proposals))
        self._index = np.full(count, len(images))  # idle lanes
        self._taken, self._lanes, self._ended = 0, None, False
        self._found, self._success = images.copy(), np.zeros(len(images), bool)
        self._queries = np.zeros(len(images), np.int64)
        self._num_outside = 0
        self.finished = np.zeros(len(images), bool)

    @property
    def _busy(self) -> np.ndarray:
        """Which lanes have an image, bool `[L]`."""
        return self._index < len(self._images)

    def take_images(self) -> bool:
        """Give idle lanes the next images; return whether any lane is busy."""
        idle = np.flatnonzero(~self._busy)[: len(self._images) - self._taken]
        if len(idle) and not self._ended:
            self._index[idle] = self._taken + np.arange(len(idle))
            self._taken += len(idle)
            new = np.zeros(len(self._index), bool)
            new[idle] = True
            rows = np.minimum(self._index, len(self._images) - 1)
            given: Any = self._images[rows], self._labels[rows].astype(np.int32)
            given += (None if self._starts is None else self._starts[rows],)
            self._lanes = self._programs.begin(
                self._lanes, new, *given, self._key, rows
            )
        return bool(self._busy.any()) and not self._ended

    def advance(self) -> None:
        """Query the proposals of all busy lanes once."""
        size, busy = self._method.num_proposals, np.flatnonzero(self._busy)
        asked = np.array(self._programs.ask(self._lanes))
        clean = np.repeat(self._images[self._index[busy]], size, axis=0)
        sent = self._rounded(asked[busy].reshape(clean.shape), clean)
        try:
            answers = self._oracle(sent)
        except BudgetExhausted as error:
            answers, self._ended = error.answers, True
        seen = getattr(self._oracle, "seen", np.asarray)(sent)
        logits = np.log(np.maximum(answers, np.finfo(np.float32).tiny))
        # What a service sees instead may lie outside of the ball, and is no success.
        outside = self._within(sent, clean) & ~self._within(seen, clean)
        logits[outside[: len(logits)]] = np.nan
        self._num_outside += int(outside[: len(logits)].sum())
        answered = busy[: len(answers) // size]
        asked[busy] = seen.reshape(asked[busy].shape)
        table = np.zeros((*asked.shape[:2], self._oracle.num_classes), np.float32)
        complete = logits[: len(answered) * size]
        table[answered] = complete.reshape(len(answered), *table.shape[1:])
        known = np.zeros(len(self._index), bool)
        known[answered] = True
        self._lanes = self._programs.tell(self._lanes, known, asked, table)
        self._record(busy, len(answers) % size)

    def _within(self, images: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """Return which images are within epsilon, bool `[M]`."""
        return distances(images, clean, self._method.norm) <= self._limit

    def _rounded(self, images: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """Round proposals to the levels; those within epsilon stay there."""
        if self._levels is None:
            return images
        options: Any = {"norm": self._method.norm, "levels": self._levels}
        nearest = np.asarray(attacks.quantize(images, clean, **options))
        if self._method.epsilon is None:
            return nearest
        options["epsilon"] = float(self._method.epsilon)
        inward = np.asarray(attacks.quantize(images, clean, **options))
        rows = self._within(images, clean).reshape(-1, *[1] * (images.ndim - 1))
        # Some attacks also query images far away.
        return np.where(rows, inward, nearest)

    def _record(self, busy: np.ndarray, rest: int) -> None:
        """Copy results; `rest` answers belong to the first lane that lacks some."""
        assert self._lanes is not None
        state, rows = self._lanes, self._index[busy]
        done = np.asarray(state.done)[busy]
        before = self._queries[rows]
        self._queries[rows] = np.asarray(state.queries)[busy]
        if rest:
            self._queries[rows[np.flatnonzero(self._queries[rows] == before)[0]]] += (
                rest
            )
        self._success[rows] = np.asarray(state.success)[busy]
        if done.any() or self._ended:
            self._found[rows] = np.asarray(state.best)[busy]
        self.finished[rows] = done
        self._index[busy[done]] = len(self._images)

    def result(self) -> OracleResult:
        """Return the results of all images."""
        total = int(self._queries.sum())
        if self._num_outside > total / 2:
            warnings.warn(
                f"The service saw {self._num_outside} of {total} images outside of "
                "epsilon, so that their answers could not count; send PNG files or "
                "pixels, which stay as they are.",
                stacklevel=3,
            )
        return OracleResult(self._found, self._success, self._queries, self.finished)


@functools.lru_cache(maxsize=16)
def _compile(attack: Attack, targeted: bool) -> _Programs:
    """Return the steps of all lanes as programs, which later calls reuse."""
    method = attacks.query_method(attack, targeted=targeted)

    def _choose(mask: Array, new: Any, old: Any) -> Any:
        return jax.vmap(
            lambda m, a, b: jax.tree.map(lambda x, y: jnp.where(m, x, y), a, b)
        )(mask, new, old)

    def _begin(lanes, mask, images, labels, starts, key, rows):
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        new = jax.vmap(method.init)(images, labels, keys, starts)
        return new if lanes is None else _choose(mask, new, lanes)

    def _tell(lanes, mask, images, logits):
        new = jax.vmap(method.tell)(lanes, images, logits)
        return _choose(mask, new, lanes)

    # The options of the compiled attack, whose proposals are the same bits.
    compiled = functools.partial(jax.jit, compiler_options=compiler_options())
    return _Programs(*map(compiled, (_begin, jax.vmap(method.ask), _tell)))
