"""Fast adaptive boundary: projections onto linearised boundaries, near the image.

Deviations: bisection and Newton's method find the projections, which the paper sorts.
Random starts lie within half of the best distance so far, or of the released code's
defaults before the first success, or of a sufficient distance; the paper takes the
smaller of that distance and an epsilon. Without a sufficient distance, a final
bisection shortens the perturbation (the paper has three steps of another search). An
iterate, as well as the clean image, succeeds only if its margin exceeds the rounding of
the logits; from one on the boundary up to rounding the search returns as from a
success. Where no class has a usable gradient, a step goes in a random direction. A
targeted form crosses the boundary between the wanted class and the best other one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from advgan_jax import losses
from advgan_jax.attacks._api import attack
from advgan_jax.attacks._fab import State, search
from advgan_jax.attacks.apgd import next_classes
from advgan_jax.attacks.deepfool import linearise
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar


@attack(
    static=("num_steps", "norm", "random_start", "num_restarts"),
    random="random_start",
    unit=True,
)
def fab(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_steps: int = 100,
    norm: str = "linf",
    random_start: bool = False,
    num_restarts: int = 1,
    sufficient_distance: Scalar | None = None,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Fast adaptive boundary attack: the norm of a perturbation, minimised.

    .. math:: x_{k+1} = \mathrm{clip}\big((1 - \alpha)(x_k + \eta d(x_k)) +
      \alpha (x + \eta d(x)), l, h\big), \qquad
      \alpha = \min\Big(\frac{\lVert d(x_k)\rVert}{\lVert d(x_k)\rVert + \lVert
      d(x)\rVert}, 0.1\Big)

    where `d(z)` leads to the nearest point of the box on the boundary of the nearest
    class, linearised at `x_k`, and `eta = 1.05`. After a success the search returns by
    a tenth of the perturbation. Each step costs a backward pass per class.

    Args:
      num_steps: number of linearisations of each run.
      random_start: whether the runs after the first start at random points, which needs
        `key`.
      num_restarts: number of runs; the first starts at the image.
      sufficient_distance: in pixel units of `norm`: an image ends at its first success
        within it. There is no bisection, so distances are not the least: draw no curves
        from them. None: all steps are done, then the bisection.

    Returns:
      Adversarial images; the clean image where the search failed.

    Raises:
      ValueError: for restarts without a random start.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/1907.02044), Alg. 1.
    """

    def _boundaries(state: State) -> tuple[Array, Array, Array]:
        x, labels = state.x, state.labels
        if targeted:
            return _one(logits_fn, x, _towards(labels))
        logits = jax.eval_shape(logits_fn, x)
        classes = jnp.broadcast_to(jnp.arange(logits.shape[-1]), logits.shape)
        gaps, gradients = linearise(logits_fn, x, labels, classes, targeted=False)
        return gaps, gradients, labels != classes.T

    return search(
        *(logits_fn, images, labels, jnp.repeat(labels[:, None], num_restarts, 1)),
        *(_boundaries, key),
        norm=norm,
        num_steps=num_steps,
        num_restarts=num_restarts,
        random_start=random_start,
        sufficient_distance=sufficient_distance,
        targeted=targeted,
        bounds=bounds,
    )


@attack(
    static=("num_steps", "norm", "random_start", "num_restarts", "num_classes_tried"),
    random="random_start",
    unit=True,
)
def fab_targeted(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_steps: int = 100,
    norm: str = "linf",
    random_start: bool = False,
    num_restarts: int = 1,
    num_classes_tried: int = 9,
    sufficient_distance: Scalar | None = None,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Fast adaptive boundary attack on the most likely wrong classes, one by one.

    Each run is that of `fab` with one boundary, `Z_y = Z_t`. So a step costs one
    backward pass, however many classes there are. Any wrong class is a success.

    Args:
      num_steps: number of linearisations of each run.
      random_start: whether the runs towards a class but the first start at random
        points, which needs `key`.
      num_restarts: number of runs towards each class.
      num_classes_tried: number of classes, those of the largest logits of the clean
        image; at most one less than there are.
      sufficient_distance: see `fab`.
      targeted: must be False; the attack chooses its own classes.

    Returns:
      Adversarial images; the clean image where the search failed.

    Raises:
      ValueError: if `targeted`, or for restarts without a random start.

    References:
      Croce & Hein, 2020 (https://arxiv.org/abs/1907.02044), Alg. 1;
      Croce & Hein, 2020 (https://arxiv.org/abs/2003.01690), Sec. 5, for the classes.
    """
    if targeted:
        raise ValueError(
            "`fab_targeted` chooses the wanted classes itself, got targeted=True; use "
            "`fab` with `targeted=True` for classes of your own."
        )
    classes = next_classes(logits_fn(images), labels, num_classes_tried)

    def _boundaries(state: State) -> tuple[Array, Array, Array]:
        wanted = jnp.take_along_axis(state.classes, state.run[:, None], axis=1)[:, 0]

        def _gap(logits: Array) -> Array:
            return -losses.margin_between(logits, state.labels, wanted)

        return _one(logits_fn, state.x, _gap)

    return search(
        *(logits_fn, images, labels, jnp.repeat(classes, num_restarts, axis=1)),
        *(_boundaries, key),
        norm=norm,
        num_steps=num_steps,
        num_restarts=num_restarts,
        random_start=random_start,
        sufficient_distance=sufficient_distance,
        targeted=False,
        bounds=bounds,
    )


def _towards(labels: Array) -> Callable[[Array], Array]:
    """Return the gap to wanted classes, positive after success."""
    return lambda logits: -losses.logit_margin(logits, labels, targeted=True)


def _one(
    logits_fn: LogitsFn, x: Array, gap: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """Return the single boundary of a gap that is a function of the logits."""

    def _total(x: Array) -> tuple[Array, Array]:
        gaps = gap(logits_fn(x))
        return jnp.sum(gaps), gaps

    (_, gaps), gradient = jax.value_and_grad(_total, has_aux=True)(x)
    known = jnp.isfinite(gaps)
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
    return jnp.where(known, gaps, 0)[None], gradient[None], known[None]
