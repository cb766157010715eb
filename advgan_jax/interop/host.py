"""Models that run outside of JAX, as functions of NumPy arrays, without gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import is_concrete
from advgan_jax.types import Array, LogitsFn


def from_host(
    fn: Callable[[np.ndarray], Any], num_classes: int, *, name: str = "the model"
) -> LogitsFn:
    """Wrap a function of NumPy arrays, such as a scikit-learn predictor, as a model.

    The model runs under `jit` and `vmap`. It has no gradient: generators, transfer and
    `evaluate` need none, and attacks that need one are refused.

    Args:
      fn: images float32 `[B, H, W, C]` -> logits `[B, K]`, any real dtype. Logarithms
        of probabilities are logits. It must return the same logits for the same images.
      num_classes: K.
      name: how error messages call the model.

    Returns:
      The model, `[B, H, W, C] -> [B, K]` float32 logits.

    Raises:
      TypeError: if `fn` is not callable; when an attack differentiates the model.
      ValueError: if `num_classes` is below 2; when called, if `fn` returns another
        shape than `[B, K]` or no numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> from advgan_jax import interop
      >>> on_numpy = lambda images: images.reshape(len(images), -1)[:, :3]
      >>> model = interop.from_host(on_numpy, num_classes=3)
      >>> print(model(jnp.zeros((1, 2, 2, 1))))
      [[0. 0. 0.]]
    """
    check_num_classes(num_classes)
    if not callable(fn):
        raise TypeError(
            "`fn` must be a function from NumPy images to logits, got "
            f"{type(fn).__name__}; of a scikit-learn model pass `predict_log_proba`."
        )

    def _call(images: Any) -> np.ndarray:
        return check_logits(fn(np.asarray(images)), len(images), num_classes, name)

    @jax.custom_jvp
    def _logits_fn(images: Array) -> Array:
        return call_host(_call, logits_type(images, num_classes), images)

    @_logits_fn.defjvp
    def _no_gradient(primals: Any, tangents: Any) -> Any:
        raise TypeError(
            f"`from_host`: {name} has no gradient, and this attack needs one. Use a "
            "generator, a transfer attack, or distil the model (`train_blackbox`)."
        )

    return direct(_call, _logits_fn)


def direct(on_host: Callable[[Any], np.ndarray], traced: LogitsFn) -> LogitsFn:
    """Return a model that needs no callback for arrays: errors come as they are."""

    def _logits_fn(images: Array) -> Array:
        if is_concrete(images):
            return jnp.asarray(on_host(np.asarray(images)))
        return traced(images)

    return _logits_fn


def logits_type(images: Array, num_classes: int) -> jax.ShapeDtypeStruct:
    """Return the type of a model's logits, float32 `[B, K]`."""
    return jax.ShapeDtypeStruct((images.shape[0], num_classes), jnp.float32)


def call_host(fn: Callable[..., Any], types: Any, *arrays: Array) -> Any:
    """Call a function of the host, batch by batch under `vmap`; it returns `types`."""
    return jax.pure_callback(fn, types, *arrays, vmap_method="sequential")


def check_num_classes(num_classes: int) -> None:
    """Raise unless there are at least two classes."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer):
        raise TypeError(f"`num_classes` must be an integer, got {num_classes!r}.")
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be at least 2, got {num_classes}.")


def check_logits(
    logits: Any, batch_size: int, num_classes: int, name: str
) -> np.ndarray:
    """Return logits as float32 `[B, K]`; raise `ValueError` for anything else."""
    array = np.asarray(logits)
    if array.shape != (batch_size, num_classes) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must return logits of shape ({batch_size}, {num_classes}), got "
            f"{array.dtype}{list(array.shape)}."
        )
    return array.astype(np.float32, copy=False)
