r"""Szegedy's attack: the least perturbation, by L-BFGS in the box and a search over c.

The paper minimises `c |r| + loss(x + r, l)` within the box and looks for the "minimum
c" whose solution reaches the class. Two things are read otherwise here:

- The distance is `||r||_2^2`, which has a gradient at `r = 0` and is what "L-BFGS" can
  be applied to; the distortion that the paper reports is that of the L2 norm as well.
- As c is the weight of the *distance*, the shortest `r` belongs to the *largest* c that
  still succeeds. (The minimum would be sought if c weighed the loss.)

Each image has its own c. It grows or shrinks tenfold until one value succeeds and one
fails; then the bracket is halved on a logarithmic scale. Each minimisation sets out
from where the last one ended, which saves a third of the evaluations and loses nothing.
The shortest adversarial image of the whole search is returned, which need not be that
of the largest c: nets are not convex. Only the model judges what is adversarial.

The paper's attack is targeted. Untargeted, each image heads for the class whose
boundary is nearest by the linearised model, of the ten of the largest logits, but any
other class counts as well. On the 8x8 digits that is within one percent of the best of
all nine targets.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.1.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax.tree_util import Partial

from advgan_jax import checks
from advgan_jax.attacks import lbfgs_pool, lbfgs_solvers
from advgan_jax.attacks._api import attack
from advgan_jax.attacks.lbfgs_bracket import (
    LBFGSResult,
    Search,
    adversarial,
    begin,
    end,
    judge,
)
from advgan_jax.attacks.lbfgs_solvers import Problem, Settings
from advgan_jax.cpu import loops
from advgan_jax.types import Array, Bounds, LogitsFn


def _search_by_jax(
    model: LogitsFn,
    problem: Problem,
    search: Search,
    num_search_steps: int,
    *,
    settings: Settings,
) -> Search:
    """All images go through the same steps of the search together."""

    def step(carry: tuple[Search, Array]) -> tuple[Search, Array]:
        search, x = carry
        x, evaluations = lbfgs_solvers.solve_jax(model, problem, x, search.c, settings)
        return _judge_all(model, problem, search, x, evaluations, settings), x

    return loops.repeat(step, (search, problem.images), num_search_steps)[0]


def _judge_all(
    model: LogitsFn,
    problem: Problem,
    search: Search,
    x: Array,
    evaluations: Array,
    settings: Settings,
) -> Search:
    """Judges what a solver has found for all images."""
    success = adversarial(model, problem, x, settings=settings)
    everywhere = jnp.ones(len(x), bool)
    search = judge(search, problem.images, jnp.asarray(x), success, everywhere)
    return search._replace(evaluations=search.evaluations + evaluations)


_DEVICE_SEARCHES: dict[str, Callable] = {
    "jax": _search_by_jax,
    "projected": lbfgs_pool.search_by_lanes,
}
SOLVERS = tuple(_DEVICE_SEARCHES)


def _on_device(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None,
    *,
    key: Array | None = None,
    solver: str = "projected",
    num_search_steps: int = 12,
    num_steps: int = 60,
    memory: int = 10,
    initial_distance_weight: float = 1.0,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> LBFGSResult:
    del key
    if solver not in SOLVERS:
        raise checks.unknown_name("solver", solver, SOLVERS)
    settings = _settings(num_steps, memory, targeted, bounds)
    model = Partial(logits_fn)
    problem, search = begin(
        model, images, labels, initial_distance_weight, settings=settings
    )
    search = _DEVICE_SEARCHES[solver](
        model, problem, search, num_search_steps, settings=settings
    )
    return end(model, problem, search, settings=settings)


def _settings(num_steps: int, memory: int, targeted: bool, bounds: Bounds) -> Settings:
    checks.check_at_least("num_steps", num_steps, 1)
    checks.check_at_least("memory", memory, 1)
    return Settings(num_steps, memory, targeted, bounds)


_COUNTS = ("num_search_steps", "num_steps", "memory")
# Errors name the public attack.
_on_device.__name__ = "lbfgs"
_device_search = attack(static=("solver", *_COUNTS))(_on_device)


def lbfgs_search(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    solver: str = "projected",
    num_search_steps: int = 12,
    num_steps: int = 60,
    memory: int = 10,
    initial_distance_weight: float = 1.0,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> LBFGSResult:
    """`lbfgs` with all that it knows; same arguments."""
    settings = {
        "num_search_steps": num_search_steps,
        "num_steps": num_steps,
        "memory": memory,
        "initial_distance_weight": initial_distance_weight,
        "targeted": targeted,
        "bounds": bounds,
    }
    del key
    return _device_search(logits_fn, images, labels, solver=solver, **settings)


def lbfgs(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None = None,
    *,
    key: Array | None = None,
    solver: str = "projected",
    num_search_steps: int = 12,
    num_steps: int = 60,
    memory: int = 10,
    initial_distance_weight: float = 1.0,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Szegedy's box-constrained L-BFGS attack.

    .. math:: \min_r \; c\,\lVert r\rVert_2^2 + \ell(Z(x + r), y), \qquad
        x + r \in [l, h]^n

    with the cross-entropy `-log p_y` of the wanted class or, untargeted, that between
    the true class and the nearest by the linearised model. For each image a bisection
    on `log c` looks for the largest c that succeeds (the paper says "minimum c"; see
    the module's docstring), and the shortest adversarial image met is returned.

    Args:
      logits_fn: the attacked model, `[B, H, W, C] -> [B, K]` logits.
      images: float32 `[B, H, W, C]` within `bounds`.
      labels: int `[B]`, true (wanted when `targeted`); None: the model's prediction.
      key: not used.
      solver: what minimises for a given c. `projected`: the L-BFGS of `optimizers`,
        many images side by side, compiled with the search. `jax`: the L-BFGS of
        `jax.scipy.optimize`, image by image, with a penalty for the box that it does
        not know. `jax` stops where the objective falls by less than 1e-5 of itself,
        `projected` at 1e-5 to 1e-4.
      num_search_steps: values of c tried: by factors of ten until one succeeds and one
        fails, then bisecting.
      num_steps: of L-BFGS for each c.
      memory: curvature pairs kept by L-BFGS.
      initial_distance_weight: the first c, in units of loss over squared pixel.
      targeted: whether to move towards `labels`.
      bounds: the least and the greatest pixel value.

    Returns:
      Adversarial images; the clean image where none was found, and where it is one
      already.

    Raises:
      ValueError: for an unknown solver, or a count below 1.

    References:
      Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.1.
    """
    return lbfgs_search(
        logits_fn,
        images,
        labels,
        key=key,
        solver=solver,
        num_search_steps=num_search_steps,
        num_steps=num_steps,
        memory=memory,
        initial_distance_weight=initial_distance_weight,
        targeted=targeted,
        bounds=bounds,
    ).images
