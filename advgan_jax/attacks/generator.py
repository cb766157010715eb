"""A trained generator as an attack: one forward pass, no gradient of the model.

Here the generator is any function of images in [0, 1]; pixels of other bounds are
mapped there. `generators.TrainedGenerator`, which trainings return, is an attack
itself. The attacked model may differ from the one in training.
"""

from collections.abc import Callable

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._units import to_unit
from advgan_jax.checks import check_image_axes
from advgan_jax.projections import perturb
from advgan_jax.types import Array, Bounds, LogitsFn, Scalar


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

    .. math:: x_A = \mathrm{clip}(x + \mathrm{clip}((h - l)\, G(\tfrac{x - l}{h - l}),
      -\epsilon, \epsilon), l, h)

    Args:
      logits_fn: only checked; outside `jit` the check evaluates it on eight images.
      labels: only checked.
      generator: G, from images `[B, H, W, C]` in [0, 1] to perturbations of them.
      epsilon: bound of the perturbation, in pixel units. It has no effect on a
        perturbation that is within it already.
      targeted: not used; the training decides the class.

    Returns:
      Adversarial images, same shape as `images`.

    References:
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.1.
    """
    del logits_fn, labels, key, targeted
    check_image_axes(images)
    perturbation = (bounds[1] - bounds[0]) * generator(to_unit(images, bounds))
    return perturb(images, perturbation, epsilon, bounds)


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

    .. math:: x_A = \mathrm{clip}(x + \mathrm{clip}((h - l)\,
      G(\tfrac{x - l}{h - l}, t), -\epsilon, \epsilon), l, h)

    Args:
      logits_fn: only checked, see `advgan`.
      labels: wanted classes, int `[B]`.
      generator: G, from images in [0, 1] and wanted classes to perturbations.
      epsilon: bound of the perturbation; see `advgan`.
      targeted: must be True.

    Returns:
      Adversarial images, same shape as `images`.

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
    check_image_axes(images)
    perturbation = (bounds[1] - bounds[0]) * generator(to_unit(images, bounds), labels)
    return perturb(images, perturbation, epsilon, bounds)
