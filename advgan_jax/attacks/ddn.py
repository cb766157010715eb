"""Decoupled direction and norm: steps on a sphere whose radius follows the boundary.

Deviations: the second half of the steps descends the margin. The cross-entropy of the
paper leads to nearer boundaries, but mixes the classes there: with three linear ones
the perturbation was 5 % too long. Pixels are not rounded to grey levels (see
`quantize`). At the end a bisection shortens the perturbation, by about the last change
of the radius. An iterate, as well as the clean image, succeeds only if its margin
exceeds the rounding of the logits. From a point without a usable gradient a step goes
in a random direction.
"""

import jax.numpy as jnp

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._shortest import (
    Look,
    Walk,
    cosine,
    descend_on_balls,
    on_sphere,
)
from advgan_jax.types import Array, Bounds, LogitsFn

_FIRST_RADIUS = 1.0
_FIRST_STEP, _LAST_STEP = 1.0, 0.01
_CHANGE = 0.05  # of the radius, relative


@attack(static=("num_steps",), unit=True)
def ddn(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    num_steps: int = 100,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Decoupled direction and norm: the L2 norm of a perturbation, minimised.

    .. math:: r \leftarrow r - \alpha_k \frac{\nabla J}{\lVert\nabla J\rVert_2}, \qquad
      \rho \leftarrow (1 \mp \gamma) \rho, \qquad
      x_{k+1} = \mathrm{clip}\Big(x + \rho \frac{r}{\lVert r \rVert_2}, l, h\Big)

    where `J` is first minus the cross-entropy, then `Z_y - max Z_i` over the other
    classes. The radius shrinks where `x_k` is adversarial, and else grows, by five
    percent. The step `alpha` falls from 1 to 0.01, in pixels mapped to [0, 1].

    Args:
      num_steps: number of gradients.

    Returns:
      Adversarial images; the clean image where the search failed.

    References:
      Rony et al., 2019 (https://arxiv.org/abs/1811.09600), Alg. 1.
    """
    del key

    def _radius(walk: Walk, look: Look) -> Array:
        return walk.radius * jnp.where(look.success, 1 - _CHANGE, 1 + _CHANGE)

    return descend_on_balls(
        *(logits_fn, images, labels),
        norm="l2",
        losses=("cross_entropy", "margin"),
        first_radius=_FIRST_RADIUS,
        num_steps=num_steps,
        targeted=targeted,
        bounds=bounds,
        length_of_step=lambda share: cosine(share, _FIRST_STEP, _LAST_STEP),
        next_radius=_radius,
        place=on_sphere,
    )
