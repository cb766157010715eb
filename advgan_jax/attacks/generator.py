"""A trained generator as an attack: one forward pass, no gradient of the model.

`training.advgan` and `training.aigan` train generators; this module only applies them.
The attacked model may differ from the one in training, and need not be differentiable.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike

from advgan_jax.attacks._api import attack
from advgan_jax.checks import is_concrete
from advgan_jax.projections import perturb
from advgan_jax.types import Array, Attack, Bounds, LogitsFn, Params, Scalar


@attack(functions=("generator",))
def advgan(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    generator: Callable[[Array], Array],
    epsilon: Scalar,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Add to each image the perturbation of a trained generator.

    .. math:: x_A = \mathrm{clip}(x + \mathrm{clip}(G(x), -\epsilon, \epsilon), l, h)

    Args:
      logits_fn: only checked; outside `jit` the check evaluates it on eight images.
      labels: only checked.
      generator: G, from images `[B, H, W, C]` to perturbations in pixel units.
      epsilon: bound of the perturbation, in pixel units; above that of the training it
        changes nothing.
      targeted: not used; the training decides the class.

    Returns:
      Adversarial images, same shape and dtype as `images`.

    References:
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.1.
    """
    del logits_fn, labels, key, targeted
    return perturb(images, generator(images), epsilon, bounds)


@attack(functions=("generator",))
def aigan(
    logits_fn: LogitsFn,
    images: Array,
    labels: Array,
    *,
    key: Array | None = None,
    generator: Callable[[Array, Array], Array],
    epsilon: Scalar,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> Array:
    r"""Add the perturbation of a trained generator for each image and its wanted class.

    .. math:: x_A = \mathrm{clip}(x + \mathrm{clip}(G(x, t), -\epsilon, \epsilon), l, h)

    Args:
      logits_fn: only checked, see `advgan`.
      labels: wanted classes, int `[B]`.
      generator: G, from images and wanted classes to perturbations in pixel units.
      epsilon: bound of the perturbation; see `advgan`.
      targeted: must be True.

    Returns:
      Adversarial images, same shape and dtype as `images`.

    Raises:
      ValueError: if not `targeted`.

    References:
      Bai et al., 2020 (https://arxiv.org/abs/2002.02196).
    """
    del logits_fn, key
    if not targeted:
        raise ValueError(
            "`aigan` needs wanted classes, got targeted=False; pass them as `labels`, "
            "and `targeted=True`."
        )
    return perturb(images, generator(images, labels), epsilon, bounds)


def generator_attack(
    apply_fn: Callable[[Params, Array], Array],
    params: Params,
    *,
    epsilon: Scalar,
    target_class: int | None = None,
) -> Attack:
    """Bind a trained generator; the attack rejects calls it was not trained for.

    Args:
      apply_fn: `(params, images) -> perturbations`, in pixel units.
      params: the trained weights.
      epsilon: the bound of its training, in pixel units; a call may override it.
      target_class: the class it was trained to reach; None for untargeted.

    Returns:
      An attack like all others: `attack(logits_fn, images, labels, epsilon=0.3)`.
    """
    generator = Partial(apply_fn, params)
    trained_epsilon = epsilon

    def _bound(
        logits_fn: LogitsFn,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        epsilon: Scalar = trained_epsilon,
        targeted: bool = False,
        **arguments,
    ) -> Array:
        _check_class(labels, targeted, target_class)
        arguments |= {"epsilon": epsilon, "targeted": targeted}
        return advgan(logits_fn, images, labels, generator=generator, **arguments)

    return _bound


def conditional_generator_attack(
    apply_fn: Callable[[Params, Array, Array], Array],
    params: Params,
    *,
    epsilon: Scalar,
) -> Attack:
    """Bind a trained generator that aims at the class it is given.

    Args:
      apply_fn: `(params, images, target_labels) -> perturbations`, in pixel units.
      params: the trained weights.
      epsilon: the bound of its training, in pixel units; a call may override it.

    Returns:
      An attack: `attack(logits_fn, images, target_labels, targeted=True)`.
    """
    return partial(aigan, generator=Partial(apply_fn, params), epsilon=epsilon)


def _check_class(
    labels: ArrayLike | None, targeted: bool, target_class: int | None
) -> None:
    """Raise `ValueError` unless the call aims at the class of the training."""
    if targeted != (target_class is not None):
        kind = "untargeted" if target_class is None else "targeted"
        raise ValueError(
            f"This generator was trained {kind}, got targeted={targeted}; "
            "pass the other value, or load another generator."
        )
    if target_class is not None and labels is not None and is_concrete(labels):
        others = np.setdiff1d(np.asarray(labels), target_class)
        if others.size:
            raise ValueError(
                f"This generator was trained to reach class {target_class}, got "
                f"label {others[0]}; it can reach no other class."
            )
