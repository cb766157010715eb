"""Models of other JAX libraries, with gradients. A Flax NNX module needs no wrapper."""

from functools import partial
from typing import Any

import jax
from jax.tree_util import Partial

from advgan_jax.checks import optional_library
from advgan_jax.interop.preprocessing import check_layout, to_layout
from advgan_jax.types import Array, LogitsFn


def from_linen(module: Any, variables: Any, **arguments: Any) -> LogitsFn:
    """Bind a Flax Linen module to its variables.

    Args:
      module: maps images `[B, H, W, C]` to logits `[B, K]`.
      variables: all its collections, for example `{"params": ..., "batch_stats": ...}`.
      **arguments: further arguments of the module, for example `train=False` or
        `use_running_average=True`: batch norm and dropout must be in evaluation mode.

    Returns:
      The model, a pytree whose arrays are the variables.

    Raises:
      TypeError: if `variables` has no collections.
    """
    if not hasattr(variables, "keys") or not hasattr(module, "apply"):
        raise TypeError(
            "`from_linen` needs a Linen module and what `module.init` returned, got "
            f"{type(module).__name__} and {type(variables).__name__}."
        )
    return Partial(partial(module.apply, **arguments), variables)


def from_equinox(model: Any, state: Any = None, *, layout: str = "NCHW") -> LogitsFn:
    """Wrap an Equinox model of single images as a model of batches.

    Args:
      model: maps one image to logits `[K]`, as Equinox' models do; it runs in
        inference mode: dropout is off and batch norm uses its running statistics.
      state: the state of a model with batch norm; it is called as `model(x, state)`.
      layout: the layout of its images, `NCHW` (Equinox' own layers) or `NHWC`.

    Returns:
      The model, `[B, H, W, C] -> [B, K]`.

    Raises:
      ImportError: if Equinox is not installed.
      ValueError: for an unknown layout.
    """
    check_layout(layout)
    equinox = optional_library("equinox", "`from_equinox`")
    frozen = equinox.nn.inference_mode(model)

    def _one(image: Array) -> Array:
        return frozen(image) if state is None else frozen(image, state)[0]

    def _logits_fn(images: Array) -> Array:
        return jax.vmap(_one)(to_layout(images, layout))

    return _logits_fn


def from_keras(model: Any, *, layout: str = "NHWC") -> LogitsFn:
    """Wrap a Keras 3 model that runs on JAX, in inference mode.

    Args:
      model: a Keras model that returns logits; end it without a softmax.
      layout: the layout of its images, `NHWC` (`channels_last`) or `NCHW`.

    Returns:
      The model, `[B, H, W, C] -> [B, K]`.

    Raises:
      ImportError: if Keras is not installed.
      ValueError: for an unknown layout, or if Keras runs on another backend.
    """
    check_layout(layout)
    backend = optional_library("keras", "`from_keras`").backend.backend()
    if backend != "jax":
        raise ValueError(
            f"`from_keras` needs Keras on JAX, got the backend {backend!r}; set "
            "KERAS_BACKEND=jax before Keras is imported."
        )
    return lambda images: model(to_layout(images, layout), training=False)
