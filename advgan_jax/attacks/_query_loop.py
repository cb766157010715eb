"""Attacks by queries on a JAX model: the loop over a batch, and the public attacks."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from advgan_jax import checks
from advgan_jax.attacks import _api
from advgan_jax.attacks._descent import select
from advgan_jax.attacks._queries import QueryMethod, State
from advgan_jax.cpu import loops
from advgan_jax.types import Array, LogitsFn

_P = ParamSpec("_P")


class QueryResult(NamedTuple):
    """The result of an attack by queries for each image.

    Attributes:
      images: adversarial images; where the attack failed, the best ones found.
      success: bool `[B]`, whether an answer showed that the attack succeeded.
      queries: number of queries for each image, int32 `[B]`.
    """

    images: Array
    success: Array
    queries: Array


class _Lanes(NamedTuple):
    """Attacks that run side by side; each lane takes one image after another."""

    index: Array  # of its image; the number of images where the lane is idle
    states: State
    taken: Array  # number of images that lanes have taken
    results: QueryResult


def search(
    method: QueryMethod,
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    key: Array | None,
) -> QueryResult:
    """Attack a batch on a JAX model; lanes that finish take the next images."""
    num_images = images.shape[0]
    results = QueryResult(images, labels < 0, 0 * labels)
    if num_images == 0:
        return results
    key = jax.random.key(0) if key is None else key

    def _begin(index: Array) -> State:
        image, label = (jnp.take(a, index, 0, mode="clip") for a in (images, labels))
        return method.init(image, label, jax.random.fold_in(key, index))

    def _fill(lanes: _Lanes) -> _Lanes:
        """Write results of finished lanes, and give these the next images."""
        idle = lanes.states.done | (lanes.index >= num_images)
        rows = jnp.where(idle, lanes.index, num_images)
        found = lanes.states.best, lanes.states.success, lanes.states.queries
        results = jax.tree.map(
            lambda all_, ours: all_.at[rows].set(ours, mode="drop"),
            lanes.results,
            QueryResult(*found),
        )
        position = lanes.taken + jnp.cumsum(idle) - 1
        new = idle & (position < num_images)
        return _Lanes(
            index=jnp.where(new, position, jnp.where(idle, num_images, lanes.index)),
            states=select(new, jax.vmap(_begin)(position), lanes.states),
            taken=lanes.taken + jnp.sum(new),
            results=results,
        )

    def _step(lanes: _Lanes) -> _Lanes:
        asked = jax.vmap(method.ask)(lanes.states)
        logits = logits_fn(asked.reshape(-1, *images.shape[1:]))
        logits = logits.reshape(*asked.shape[:2], -1)
        states = jax.vmap(method.tell)(lanes.states, asked, logits)
        lanes = lanes._replace(states=states)
        ended = states.done & (lanes.index < num_images)
        return lax.cond(jnp.any(ended), _fill, lambda lanes: lanes, lanes)

    # Not constants: under `shard_map` the carry of a loop must vary with the images.
    none = 0 * labels[: loops.num_lanes(num_images)] + num_images
    lanes = _Lanes(none, jax.vmap(_begin)(none), jnp.sum(0 * labels), results)
    return lax.while_loop(
        lambda lanes: jnp.any(lanes.index < num_images), _step, _fill(lanes)
    ).results


def query_attack(
    *, static: tuple[str, ...], random: bool
) -> Callable[[Callable[_P, QueryMethod]], _api.AttackFunction[_P, QueryResult]]:
    """Turn a function that makes a method into a public attack; see `attack`.

    The function takes keyword arguments: the method's own, which it gets in [0, 1],
    and `key`, `targeted` and `bounds`. `static` and `random` are those of `attack`.
    """
    static = ("num_queries", *static)

    def _decorate(make: Any) -> Any:
        @functools.wraps(make)
        def _core(logits_fn, images, labels, *, key, **settings):
            return search(make(**settings), logits_fn, images, labels, key)

        first = inspect.Parameter
        shared = [
            first(name, first.POSITIONAL_OR_KEYWORD)
            for name in ("logits_fn", "images", "labels")
        ]
        own = inspect.signature(make)
        core: Any = _core
        core.__signature__ = own.replace(
            parameters=[*shared, *own.parameters.values()],
            return_annotation=QueryResult,
        )
        public: Any = _api.attack(static=static, random=random, unit=True)(core)
        public.search = public
        public.make_method = functools.partial(_make_method, make, static)
        return public

    return _decorate


def _make_method(
    make: Callable[..., QueryMethod], static: tuple[str, ...], **hyperparams: Any
) -> QueryMethod:
    """Check hyper-parameters as the attack does, and make its method."""
    name = make.__name__.removesuffix("_search")
    defaults = _api.keyword_defaults(make)
    _api.refuse_unknown(name, defaults, hyperparams)
    settings, numbers = _api.sort_arguments(
        defaults, {**defaults, **hyperparams}, static, ()
    )
    traced = {n: v if v is None else np.float32(v) for n, v in numbers.items()}
    return make(**settings, **traced)


def query_method(attack: Any, *, targeted: bool = False) -> QueryMethod:
    """Return the method of an attack by queries, to run it step by step.

    Args:
      attack: one by queries, as `make_attack` returns it. Its pixels are in [0, 1].
      targeted: whether labels are wanted classes.

    Returns:
      The method of one image; `jax.vmap` makes it one of several.

    Raises:
      TypeError: for another kind of attack.
      ValueError: for bounds other than (0, 1); see also the attack.
    """
    make = getattr(getattr(attack, "function", None), "make_method", None)
    if make is None:
        raise TypeError(
            "`attack` must be one by queries, `attacks.make_attack('square', ...)`, "
            f"got {getattr(attack, 'name', type(attack).__name__)!r}."
        )
    given = {"targeted": targeted, **attack.hyperparams}
    if checks.check_bounds(given.pop("bounds", (0.0, 1.0))) != (0.0, 1.0):
        raise ValueError(
            f"`bounds` of a method must be (0, 1), got {attack.hyperparams['bounds']}."
        )
    given.pop("key", None)
    return make(**given)
