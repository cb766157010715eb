"""Prepare models, functions from images to logits, for attacks, and check them."""

import contextlib
import inspect
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import tracing
from advgan_jax.checks import (
    SUM_TOLERANCE,
    as_images,
    check_labels,
    has_channels_first,
    is_concrete,
    warn_of_axes,
)
from advgan_jax.numbers import ORDERS
from advgan_jax.tracing import Function, Traced
from advgan_jax.types import Array, Bounds, LogitsFn

_NUM_PROBED = 8
# Attributes of Flax NNX layers that are False in training mode.
_EVALUATION = ("deterministic", "use_running_average")


def as_function(logits_fn: LogitsFn, name: str = "logits_fn") -> Function:
    """Return a model, or another function of an attack, to be traced in this call.

    `TypeError` for anything that cannot be called.
    """
    if callable(logits_fn):
        _check_bound(logits_fn, name)
        check_evaluation_mode(logits_fn, name)
        return Function(logits_fn, name)
    cure = "bind the weights of a Flax model: `jax.tree_util.Partial(model.apply, w)`."
    if hasattr(logits_fn, "predict"):
        cure = f"it is not of JAX: {tracing.WRAP}"
    raise TypeError(
        f"`{name}` must be a function from images [B, H, W, C] to logits [B, K], got "
        f"{type(logits_fn).__name__}; {cure}"
    )


def _check_bound(logits_fn: LogitsFn, name: str) -> None:
    """Raise `TypeError` for a Flax Linen module without its weights."""
    linen = sys.modules.get("flax.linen")
    if linen and isinstance(logits_fn, linen.Module) and logits_fn.scope is None:
        raise TypeError(
            f"`{name}` must be a function from images to logits, got the module "
            f"{type(logits_fn).__name__} without its weights; bind them: "
            "`interop.from_linen(module, variables)`."
        )


def check_evaluation_mode(logits_fn: LogitsFn, name: str = "logits_fn") -> None:
    """Raise `ValueError` if a Flax NNX module in a model is in training mode."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return
    for module in jax.tree.leaves(
        logits_fn, is_leaf=lambda x: isinstance(x, nnx.Module)
    ):
        inner = nnx.iter_modules(module) if isinstance(module, nnx.Module) else ()
        for path, layer in inner:
            modes = (getattr(layer, mode, True) for mode in _EVALUATION)
            if any(mode is False for mode in modes):
                raise ValueError(
                    f"`{name}` must be in evaluation mode, got a "
                    f"{type(layer).__name__} in training mode at "
                    f"{'.'.join(map(str, path))!r}; call `.eval()` on the model first."
                )


def check_arguments(fn: Any, name: str, *wanted: str) -> None:
    """Raise `TypeError` for a function that cannot be called with such arguments."""
    try:
        # A decorator may add or bind arguments.
        signature = inspect.signature(fn, follow_wrapped=False)
    except (TypeError, ValueError):  # it has none
        return
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a function of {' and '.join(wanted)}, got one of "
            f"{signature}: {error}. A model that draws numbers is one of images and "
            "key, which `attacks.expectation` and version='rand' of `autoattack` need; "
            "bind all other arguments."
        ) from error


def apply(models: Mapping[str, Traced], images: Array) -> Array:
    """Return the logits of the model among traced functions; see `tracing.call`."""
    return models["logits_fn"](images)


def predict(model: Function, images: Array) -> Array:
    """Predict the classes, int32 `[B]`."""
    return tracing.call(_predict, {"logits_fn": model}, images)


def _predict(models: Mapping[str, Traced], images: Array) -> Array:
    return jnp.argmax(apply(models, images), axis=-1).astype(jnp.int32)


def check_inputs(
    model: Function, images: Any, labels: Any, bounds: Bounds
) -> tuple[Array, Array | None]:
    """Check the model, images and labels of an attack; return the latter as JAX arrays.

    `TypeError` for wrong dtypes, `ValueError` for wrong shapes and values.
    """
    images = tracing.on_device(as_images(images, bounds))
    warn_of_layout(images, bounds)
    num_classes = check_logits_fn(model, images)
    if labels is not None:
        labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
        check_labels(labels, images.shape[0], num_classes)
        labels = tracing.on_device(labels.astype(np.int32))
    if images.size and is_concrete(images, *model.at(images).arrays):
        _probe(model, images)
    return images, labels


def check_logits_fn(model: Function, images: Array) -> int:
    """Return the number of classes K of a model, without running it.

    `ValueError` unless the logits are `[B, K]` with K >= 2, `TypeError` unless floats.
    """
    try:
        logits = model.at(images).outputs
    except Exception as error:
        check_arguments(model.fn, model.name, "images")
        cure = "One image needs a batch axis: `images[None]`."
        if has_channels_first(images):
            cure = (
                "It looks like [B, C, H, W] where [B, H, W, C] is expected; use "
                "`images.transpose(0, 2, 3, 1)`."
            )
        error.add_note(f"In `{model.name}`, on a batch of shape {images.shape}. {cure}")
        raise
    wanted = f"`{model.name}` must return logits of shape ({images.shape[0]}, K)"
    if not isinstance(logits, jax.ShapeDtypeStruct):
        raise TypeError(
            f"{wanted}, got a {type(logits).__name__}; return the logits alone."
        )
    if logits.shape in ((images.shape[0],), (images.shape[0], 1)):
        z = "z" if logits.ndim == 1 else "z[:, 0]"
        raise ValueError(
            f"{wanted} and K >= 2, got {logits.shape}; a single logit z means the "
            f"classes [0, z]: `jnp.stack([jnp.zeros(len(z)), {z}], axis=-1)`."
        )
    if logits.ndim != 2 or logits.shape[0] != images.shape[0]:
        raise ValueError(f"{wanted}, got {logits.shape} for images {images.shape}.")
    if logits.shape[1] < 2:
        raise ValueError(f"{wanted} and K >= 2, got K = {logits.shape[1]}.")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{wanted} in floating point, got {logits.dtype}.")
    return logits.shape[1]


def _few_logits(models: Mapping[str, Traced], images: Array) -> Array:
    return apply(models, images[:_NUM_PROBED])


def _probe(model: Function, images: Array) -> None:
    """Check the logits of a few images; outside `jit` only."""
    few = tracing.placed(model.fewer(images, _NUM_PROBED), [images])
    with _short_errors(model.name):
        logits = tracing.run(_few_logits, {"logits_fn": few}, images)
        if not is_concrete(logits):
            return
        logits = np.asarray(jax.device_get(logits), np.float64)
    if not usable_logits(logits).all():
        bad = logits[~usable_logits(logits)][0]
        raise ValueError(
            f"`logits_fn` {LOGITS_RULE}, got {bad} on clean images; {CURE}"
        )
    warn_of_probabilities(logits, stacklevel=5)


@contextlib.contextmanager
def _short_errors(name: str) -> Iterator[None]:
    """Raise the error of a host function as one line, instead of JAX's traceback."""
    log = logging.getLogger("jax._src.callback")
    log.addFilter(_nothing)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "callback.py" not in str(error):
            raise
        *_, reason = str(error).strip().splitlines()
        raise ValueError(f"`{name}` failed on clean images: {reason}") from error
    finally:
        log.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


LOGITS_RULE = (
    "must return finite logits (`-inf` only for classes that are masked on all images, "
    "and two classes or more not masked)"
)
CURE = (
    "are all weights finite, is the input scaled as the model expects, and is it "
    "normalised without dividing by zero? Log-probabilities need `jax.nn.log_softmax`."
)


def usable_logits(logits: np.ndarray) -> np.ndarray:
    """Return which rows of logits `[B, K]` obey `LOGITS_RULE`, bool `[B]`."""
    finite = np.isfinite(logits)
    masked = np.isneginf(logits).all(axis=0)
    return (finite | masked).all(axis=1) & (finite.sum(axis=1) >= 2)


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


def warn_of_layout(images: Array | np.ndarray, bounds: Bounds) -> None:
    """Warn of images that look like `[B, C, H, W]`, or scaled to other bounds."""
    warn_of_axes(images, stacklevel=5)
    if bounds[0] == 0 and bounds[1] > 100 and is_concrete(images) and images.size:
        with jax.ensure_compile_time_eval():  # known images within a caller's program
            low, high = map(float, jax.device_get((images.min(), images.max())))
        if low >= 0 and 0 < high <= 1 and images.dtype != np.uint8:
            warnings.warn(
                f"`images` have values from {low:g} to {high:g} but bounds {bounds}; "
                "scale the images or set `bounds=(0, 1)`.",
                UserWarning,
                stacklevel=4,
            )


def warn_of_epsilon(
    epsilon: Any, bounds: Bounds, *, norm: str = "linf", shape: Sequence[int] = ()
) -> None:
    """Warn of a concrete epsilon that bounds no image of a `shape`, or is too small.

    Bounds with the width of 8 bits are those of whole pixels. Rounding undoes each
    perturbation of less than half a step; in every norm no pixel changes by more than
    epsilon. On other bounds a small epsilon may be meant, as in a curve.
    """
    if epsilon is None or not is_concrete(epsilon):
        return
    width = bounds[1] - bounds[0]
    size = width * math.prod(shape[1:]) ** (1 / ORDERS.get(norm, 1))
    is_table = len(shape) == 2  # whose numbers nobody rounds
    if width == 255 and 0 < epsilon < 0.5 and not is_table:
        warnings.warn(
            f"`epsilon` = {epsilon:g} is less than half a step between whole pixels "
            f"within bounds {bounds}, so rounding undoes the perturbation; `epsilon` "
            "is in the units of the pixels, for example 8 on (0, 255).",
            UserWarning,
            stacklevel=4,
        )
    if epsilon > size:
        warnings.warn(
            f"`epsilon` = {epsilon:g} exceeds {size:g}, the largest distance of two "
            f"images within bounds {bounds}, so it bounds nothing; `epsilon` is in the "
            "units of the pixels, for example 8/255 on [0, 1].",
            UserWarning,
            stacklevel=4,
        )
