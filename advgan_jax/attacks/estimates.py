"""Attacks that estimate the gradient from scores: NES, SPSA, Bandits.

Each step queries the iterate and pairs of points around it, `x + r u` and `x - r u`, in
one batch. The attack ends when an iterate succeeds; points around it are no results.

Deviations: the queries of the iterate count. Points around an iterate are clipped to
the box, since a service accepts no others. NES has no momentum, and its step size does
not fall. SPSA follows the margin, as in the paper, from the clean image itself. Bandits
has no prior of lower resolution, which helps on large images only. An answer that is
not a number adds nothing to an estimate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from advgan_jax.attacks._api import images_of
from advgan_jax.attacks._norms import get_norm
from advgan_jax.attacks._queries import (
    Answered,
    QueryMethod,
    State,
    keep_best,
    project,
)
from advgan_jax.attacks._query_loop import query_attack
from advgan_jax.types import Array, Bounds, Scalar


class _Iterate(NamedTuple):
    """An iterate, and what its update rule remembers."""

    x: Array
    memory: Any


def _descend(
    draw: Callable[[State], Array],
    update: Callable[[State, Array, Array], _Iterate],
    remember: Callable[[Array], Any],
    radius: Scalar,
    num_pairs: int,
    bound: dict[str, Any],
    **settings: Any,
) -> QueryMethod:
    """Return a method that steps along estimates.

    Args:
      draw: `state -> directions [n, ...]` of the pairs.
      update: `(state, directions, slopes [n]) -> iterate`, the next one.
      remember: `image -> memory` of the first iterate.
      radius: r, the distance of a pair to the iterate.
      num_pairs: n.
      bound: `epsilon` and `norm`.
      **settings: the other fields of the method.
    """

    def _start(image: Array, _key: Array, start: Array | None) -> _Iterate:
        return _Iterate(_first(image, start, **bound), remember(image))

    def _propose(state: State) -> Array:
        steps = radius * draw(state)
        around = jnp.concatenate([state.own.x + steps, state.own.x - steps])
        return jnp.concatenate([state.own.x[None], jnp.clip(around, 0, 1)])

    def _update(state: State, answered: Answered) -> State:
        ahead, behind = answered.losses[1 : num_pairs + 1], answered.losses[-num_pairs:]
        slopes = (ahead - behind) / (2 * radius)
        slopes = jnp.where(jnp.isfinite(slopes), slopes, 0)
        iterate = update(state, draw(state), slopes)
        return keep_best(state, answered, slice(1))._replace(own=iterate)

    return QueryMethod(
        *(_start, _propose, _update, 1 + 2 * num_pairs),
        takes_start=True,
        **bound,
        **settings,
    )


def _first(image: Array, start: Array | None, epsilon: Scalar, norm: str) -> Array:
    """Return the first iterate, which is queried and may be the result."""
    if start is None:
        return image
    return project(start[None], image, epsilon, norm)[0]


def _mean_slope(directions: Array, slopes: Array) -> Array:
    """Return the estimate of the gradient, the mean of slope times direction."""
    return jnp.tensordot(slopes, directions, axes=1) / len(slopes)


@query_attack(static=("num_pairs", "norm", "loss"), random=True)
def nes_search(
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_queries: int = 10_000,
    num_pairs: int = 25,
    radius: Scalar = 1e-3,
    step_size: Scalar | None = None,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""Projected descent along a gradient from natural evolution strategies.

    .. math:: \hat g = \frac{1}{2 n r} \sum_{i=1}^n
        (\ell(x + r u_i) - \ell(x - r u_i))\,u_i, \quad u_i \sim N(0, I), \qquad
      x_{k+1} = \Pi(x_k - \alpha\,\mathrm{steepest}(\hat g))

    Args:
      num_queries: the most queries for each image.
      num_pairs: n, the pairs of a step; a step makes `1 + 2 n` queries.
      radius: r, of pixels mapped to [0, 1].
      step_size: `alpha`, in pixel units; None for `epsilon / 5`, the paper's ratio.

    Returns:
      The images, their success and the number of queries for each.

    References:
      Ilyas et al., 2018 (https://arxiv.org/abs/1804.08598), Alg. 1.
    """
    del key, bounds
    steepest = get_norm(norm).steepest
    size = epsilon / 5 if step_size is None else step_size

    def _draw(state: State) -> Array:
        shape = (num_pairs, *state.image.shape)
        return jax.random.normal(state.step_key, shape, state.image.dtype)

    def _update(state: State, directions: Array, slopes: Array) -> _Iterate:
        x, gradient = state.own.x[None], _mean_slope(directions, slopes)[None]
        x = x + size * steepest(-gradient, x, (0.0, 1.0))
        return _Iterate(project(x, state.image, epsilon, norm)[0], ())

    settings = {"num_queries": num_queries, "targeted": targeted, "loss": loss}
    bound = {"epsilon": epsilon, "norm": norm}
    return _descend(_draw, _update, lambda _: (), radius, num_pairs, bound, **settings)


@query_attack(static=("num_pairs", "norm", "loss"), random=True)
def spsa_search(
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_queries: int = 10_000,
    num_pairs: int = 25,
    radius: Scalar = 0.01,
    learning_rate: Scalar | None = None,
    norm: str = "linf",
    loss: str = "margin",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""Adam along simultaneous perturbation stochastic approximations.

    .. math:: \hat g = \frac{1}{2 n r} \sum_{i=1}^n
        (\ell(x + r u_i) - \ell(x - r u_i))\,u_i, \quad u_i \in \{-1, 1\}^d, \qquad
      x_{k+1} = \Pi(\mathrm{Adam}(x_k, \hat g))

    Args:
      num_queries: the most queries for each image.
      num_pairs: n, the pairs of a step; a step makes `1 + 2 n` queries.
      radius: r, of pixels mapped to [0, 1].
      learning_rate: of Adam, of pixels mapped to [0, 1]; None for `epsilon / 5`. (The
        paper takes 0.01 for 8/255.)

    Returns:
      The images, their success and the number of queries for each.

    References:
      Uesato et al., 2018 (https://arxiv.org/abs/1802.05666), Sec. 3.
    """
    del key, bounds
    get_norm(norm)
    adam = optax.scale_by_adam()
    rate = epsilon / 5 if learning_rate is None else learning_rate

    def _draw(state: State) -> Array:
        shape = (num_pairs, *state.image.shape)
        return jax.random.rademacher(state.step_key, shape, state.image.dtype)

    def _update(state: State, directions: Array, slopes: Array) -> _Iterate:
        gradient = _mean_slope(directions, slopes)
        step, memory = adam.update(gradient, state.own.memory)
        x = state.own.x - rate * jnp.asarray(step)
        return _Iterate(project(x[None], state.image, epsilon, norm)[0], memory)

    settings = {"num_queries": num_queries, "targeted": targeted, "loss": loss}
    bound = {"epsilon": epsilon, "norm": norm}
    return _descend(_draw, _update, adam.init, radius, num_pairs, bound, **settings)


@query_attack(static=("norm", "loss"), random=True)
def bandits_search(
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_queries: int = 10_000,
    radius: Scalar = 0.1,
    exploration: Scalar = 1.0,
    prior_step_size: Scalar = 100.0,
    step_size: Scalar | None = None,
    norm: str = "linf",
    loss: str = "cross_entropy",
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""Bandits, which carry an estimate of the gradient from step to step.

    Two queries of a step measure the slopes along the prior `v`, moved by noise:

    .. math:: \Delta = \frac{\ell(x + r\,\overline{v + \delta u})
        - \ell(x + r\,\overline{v - \delta u})}{r \delta}, \quad
      u \sim N(0, I/d), \qquad
      x_{k+1} = \Pi(x_k - \alpha\,\mathrm{steepest}(v))

    where the bar divides by the L2 norm. In L-infinity the prior takes an exponentiated
    step along `\Delta u`, in L2 a plain one.

    Args:
      num_queries: the most queries for each image; a step makes three.
      radius: r, of pixels mapped to [0, 1].
      exploration: `delta`.
      prior_step_size: of the prior. (The paper takes 100 in L-infinity, 0.1 in L2.)
      step_size: `alpha`, in pixel units; None for `epsilon / 5`, the paper's ratio.
      norm: `linf` or `l2`.

    Returns:
      The images, their success and the number of queries for each.

    References:
      Ilyas et al., 2019 (https://arxiv.org/abs/1807.07978), Alg. 2 and 3.
    """
    del key, bounds
    steepest = get_norm(norm, ("linf", "l2")).steepest
    size = epsilon / 5 if step_size is None else step_size

    def _noise(state: State) -> Array:
        noise = jax.random.normal(state.step_key, state.image.shape, state.image.dtype)
        return exploration * noise / noise.size**0.5

    def _unit(v: Array) -> Array:
        return v / jnp.maximum(jnp.sqrt(jnp.sum(v**2)), 1e-12)

    def _start(image: Array, _key: Array, start: Array | None) -> _Iterate:
        return _Iterate(_first(image, start, epsilon, norm), jnp.zeros_like(image))

    def _propose(state: State) -> Array:
        x, prior = state.own
        ahead, behind = prior + _noise(state), prior - _noise(state)
        around = jnp.stack([x + radius * _unit(v) for v in (ahead, behind)])
        return jnp.concatenate([x[None], jnp.clip(around, 0, 1)])

    def _update(state: State, answered: Answered) -> State:
        x, prior = state.own
        slope = (answered.losses[1] - answered.losses[2]) / (radius * exploration)
        slope = jnp.where(jnp.isfinite(slope), slope, 0)
        change = prior_step_size * slope * _noise(state) / exploration
        if norm == "linf":
            # An exponentiated step on (1 + v) / 2, whose logit is 2 artanh(v).
            limit = 1 - jnp.finfo(prior.dtype).eps
            prior = jnp.tanh(jnp.arctanh(jnp.clip(prior, -limit, limit)) + change)
        else:
            prior = prior + change
        x = x[None] + size * steepest(-prior[None], x[None], (0.0, 1.0))
        iterate = _Iterate(project(x, state.image, epsilon, norm)[0], prior)
        return keep_best(state, answered, slice(1))._replace(own=iterate)

    return QueryMethod(
        *(_start, _propose, _update, 3, num_queries, targeted, loss, epsilon, norm),
        takes_start=True,
    )


_RETURNS = "The best iterates found, within the ball and `bounds`."
nes = images_of(nes_search, _RETURNS)
spsa = images_of(spsa_search, _RETURNS)
bandits = images_of(bandits_search, _RETURNS)
