"""Prepare models, functions from images to logits, for `jit`, and check them."""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from advgan_jax.checks import SUM_TOLERANCE, check_images, check_labels, is_concrete
from advgan_jax.types import Array, Bounds, LogitsFn

_NUM_PROBED = 8

_call = jax.jit(lambda logits_fn, images: logits_fn(images))


def as_pytree(logits_fn: LogitsFn, name: str = "logits_fn") -> LogitsFn:
    """Return a model as a pytree that `jit` accepts and that can be called.

    A pytree (`jax.tree_util.Partial`, a Flax NNX module) does not change: new weights
    need no new compilation. A plain function is static: `jit` reads the variables in
    its closure once. `TypeError` for anything that cannot be called.
    """
    if not callable(logits_fn):
        raise TypeError(
            f"`{name}` must be a function from images [B, H, W, C] to logits [B, K], "
            f"got {type(logits_fn).__name__}; bind the weights of a Flax model with "
            "`jax.tree_util.Partial(model.apply, variables)`."
        )
    leaves, treedef = jax.tree.flatten(logits_fn)
    if jax.tree_util.treedef_is_leaf(treedef):
        plain = inspect.isroutine(logits_fn) or isinstance(logits_fn, partial)
        return Partial(logits_fn if plain else _Same(logits_fn))
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    if all(is_array):
        return logits_fn
    # `train=False` in `Partial(model.apply, variables, train=False)` must stay static.
    pairs = list(zip(leaves, is_array, strict=True))
    constants = tuple(None if traced else leaf for leaf, traced in pairs)
    arrays = [leaf if traced else None for leaf, traced in pairs]
    return Partial(_Rebuilt(treedef, constants), arrays)


class _Rebuilt(NamedTuple):
    """Call a pytree whose leaves are arrays and constants."""

    treedef: Any
    constants: tuple[Any, ...]

    def __call__(self, arrays, *inputs):
        leaves = [
            constant if array is None else array
            for array, constant in zip(arrays, self.constants, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)(*inputs)


class _Same:
    """A callable object that equals only itself.

    Flax modules and data classes compare by fields, which exclude weights, or have no
    hash.
    """

    def __init__(self, fn: Callable):
        self.fn = fn

    def __call__(self, *inputs):
        return self.fn(*inputs)

    def __eq__(self, other):
        return isinstance(other, _Same) and self.fn is other.fn

    def __hash__(self):
        return id(self.fn)


@partial(jax.jit, inline=True)
def predict(logits_fn: LogitsFn, images: Array) -> Array:
    """Predict the classes, int32 `[B]`; `logits_fn` as `as_pytree` returns it."""
    return jnp.argmax(logits_fn(images), axis=-1).astype(jnp.int32)


def check_inputs(
    logits_fn: LogitsFn, images: Any, labels: Any, bounds: Bounds
) -> tuple[Array, Array | None]:
    """Check the model, images and labels of an attack; return the latter as JAX arrays.

    `TypeError` for wrong dtypes, `ValueError` for wrong shapes and values.
    """
    images = images if hasattr(images, "dtype") else np.asarray(images)
    check_images(images, bounds)
    images = jnp.asarray(images)
    num_classes = check_logits_fn(logits_fn, images)
    if labels is not None:
        labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
        check_labels(labels, images.shape[0], num_classes)
        labels = jnp.asarray(labels).astype(jnp.int32)
    if images.size and is_concrete(images, *jax.tree.leaves(logits_fn)):
        _probe(logits_fn, images[:_NUM_PROBED])
    return images, labels


def check_logits_fn(
    logits_fn: LogitsFn, images: Array, *, name: str = "logits_fn"
) -> int:
    """Return the number of classes K of a model, without running it.

    `ValueError` unless the logits are `[B, K]` with K >= 2, `TypeError` unless floats.
    """
    logits = _call.eval_shape(logits_fn, images)
    wanted = f"`{name}` must return logits of shape ({images.shape[0]}, K)"
    if not isinstance(logits, jax.ShapeDtypeStruct):
        raise TypeError(
            f"{wanted}, got a {type(logits).__name__}; return the logits alone."
        )
    if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
        raise ValueError(f"{wanted}, got {logits.shape} for images {images.shape}.")
    if logits.shape[1] < 2:
        raise ValueError(f"{wanted} and K >= 2, got K = {logits.shape[1]}.")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{wanted} in floating point, got {logits.dtype}.")
    return logits.shape[1]


def _probe(logits_fn: LogitsFn, images: Array) -> None:
    """Check the logits of a few images; outside `jit` only."""
    logits = _call(logits_fn, images)
    if not is_concrete(logits):  # The function closes over traced weights.
        return
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(
            "`logits_fn` must return finite logits, got NaN or infinity on the clean "
            "images; are the weights trained, and is the input scaled as it expects?"
        )
    warn_of_probabilities(logits, stacklevel=5)


def warn_of_probabilities(logits: np.ndarray, *, stacklevel: int) -> None:
    """Warn if all rows of `logits` `[B, K]` look like probabilities."""
    sums_to_one = np.abs(logits.sum(axis=-1) - 1) <= SUM_TOLERANCE
    if (logits >= 0).all() and sums_to_one.all():
        warnings.warn(
            "The rows that `logits_fn` returned look like probabilities; pass logits, "
            "the input of the softmax: gradients of probabilities vanish.",
            UserWarning,
            stacklevel=stacklevel,
        )
