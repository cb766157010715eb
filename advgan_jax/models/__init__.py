"""Models: target models by name, generators and discriminators."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
from jax.tree_util import Partial

from advgan_jax.checks import unknown_name
from advgan_jax.models.advgan import Discriminator, Generator
from advgan_jax.models.aigan import ConditionalGenerator, TwoHeadDiscriminator
from advgan_jax.models.classifiers import (
    FullyConnected,
    MadryNet,
    ModelA,
    ModelB,
    ModelC,
    SmallNet,
)
from advgan_jax.models.precision import MixedPrecision, lower_precision
from advgan_jax.models.resnet import ResNet
from advgan_jax.types import Array, LogitsFn

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "A": ModelA,
    "B": ModelB,
    "C": ModelC,
    "madry": MadryNet,
    "small": SmallNet,
    "resnet32": ResNet,
    "wrn34_10": partial(ResNet, blocks=5, widths=(160, 320, 640), preactivated=True),
    "fc10": FullyConnected,
    "fc100_100_10": partial(FullyConnected, hidden=(100, 100)),
    "fc200_200_10": partial(FullyConnected, hidden=(200, 200)),
    "fc123_456_10": partial(FullyConnected, hidden=(123, 456)),
}


def make_classifier(
    name: str, num_classes: int, *, axis_name: str | None = None
) -> nn.Module:
    """Make a target model, `images [B, H, W, C] -> logits [B, K]`.

    Args:
      name: a key of `CLASSIFIERS`.
      num_classes: K.
      axis_name: device axis over which training averages batch statistics; has no
        effect on models without batch normalisation.

    Raises:
      ValueError: if the name is unknown.
    """
    if name not in CLASSIFIERS:
        raise unknown_name("target model", name, CLASSIFIERS)
    model = CLASSIFIERS[name](num_classes=num_classes)
    if hasattr(model, "axis_name"):
        model = model.clone(axis_name=axis_name)
    return model


@cache
def _apply_fn(model: nn.Module, **options: Any) -> Callable[[Any, Array], Any]:
    """Return one function object for equal modules, so that `jit` does not retrace."""
    return lambda variables, images: model.apply(variables, images, **options)


def make_logits_fn(model: nn.Module, variables: Any, **options: Any) -> LogitsFn:
    """Bind a model to the variables from its `init`, as a callable and a pytree.

    As an argument of a jitted function, it can have new weights without a new trace.

    Args:
      model: a Flax Linen module that maps images to logits.
      variables: the weights, and the state if there is some.
      **options: further arguments of its call, such as `train=False`.
    """
    try:
        bound = _apply_fn(model, **options)
    except TypeError:  # A list among the fields of a module has no hash.
        bound = _apply_fn.__wrapped__(model, **options)
    return Partial(bound, jax.tree.map(lambda leaf: leaf, dict(variables)))


__all__ = [
    "CLASSIFIERS",
    "ConditionalGenerator",
    "Discriminator",
    "FullyConnected",
    "Generator",
    "MadryNet",
    "MixedPrecision",
    "ModelA",
    "ModelB",
    "ModelC",
    "ResNet",
    "SmallNet",
    "TwoHeadDiscriminator",
    "lower_precision",
    "make_classifier",
    "make_logits_fn",
]
