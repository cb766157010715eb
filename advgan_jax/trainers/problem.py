"""Check a user's model and images, and map pixels to [0, 1].

Training steps are written for pixels in [0, 1]. Images are mapped there once, and the
frozen model is wrapped, so that it receives pixels within its own bounds.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike

from advgan_jax import checks, digest, tracing
from advgan_jax.data import Split, to_float
from advgan_jax.logits import (
    as_function,
    check_inputs,
    check_logits_fn,
    predict,
    warn_of_epsilon,
    warn_of_layout,
)
from advgan_jax.oracles import Oracle
from advgan_jax.types import Array, Bounds, LogitsFn

_BATCH = 500  # images per call of a model that is not being trained
_NUM_PROBED = 8  # images that check a model, and whose logits identify it


class Problem(NamedTuple):
    """A model and training images in units of [0, 1].

    Attributes:
      logits_fn: the frozen model.
      images: the training images with their classes.
      num_classes: K.
      epsilon: L-infinity bound of the perturbation.
      name: of the model, for the record.
      pixel_epsilon: that bound in the caller's pixels.
      bounds: of the caller's pixels.
    """

    logits_fn: Any
    images: Split
    num_classes: int
    epsilon: float
    name: str
    pixel_epsilon: float
    bounds: Bounds


def make_problem(
    logits_fn: LogitsFn,
    images: ArrayLike | Split,
    labels: ArrayLike | None,
    *,
    epsilon: float,
    bounds: Bounds,
) -> Problem:
    """Check a model, images and classes, and map them to units of [0, 1].

    Args:
      logits_fn: the model, `[B, H, W, C] -> [B, K]` logits, of pixels within `bounds`.
      images: `[N, H, W, C]`, float within `bounds`, or uint8 from 0 (the lower bound)
        to 255 (the upper one); or a split with its own labels.
      labels: int `[N]`, the true classes; None means the model's predictions.
      epsilon: L-infinity bound of the perturbation, in pixel units of `bounds`.
      bounds: the least and the greatest pixel value.

    Raises:
      TypeError: for a wrong dtype, or a model that is not callable.
      ValueError: for wrong shapes, pixels or classes, or logits that are not finite.
    """
    epsilon, bounds = _check_sizes(epsilon, bounds)
    split, known = _make_split(images, labels, bounds)
    low, scale = _units(bounds)
    model = as_function(logits_fn)
    first = to_float(split.rows(np.arange(min(len(split), _NUM_PROBED)))[0])
    first = first if scale == 1 and low == 0 else low + scale * first
    check_inputs(model, np.clip(first, *bounds), None, bounds)
    num_classes = check_logits_fn(model, jnp.asarray(first))
    name = getattr(logits_fn, "__name__", type(logits_fn).__name__)
    # A pytree where the model is one, for training in lower precision.
    unit = logits_fn if bounds == (0, 1) else Partial(_in_units, logits_fn, low, scale)
    if not known:
        split = Split(split.images, predict_all(unit, split.images))
    checks.check_labels(split.labels, len(split), num_classes)
    return _finish(unit, split, num_classes, name, epsilon, bounds)


def make_queried(
    oracle: Oracle,
    images: ArrayLike | Split,
    labels: ArrayLike | None,
    *,
    epsilon: float,
    bounds: Bounds,
) -> tuple[Problem, bool]:
    """Return the task without a model, and whether the classes are known.

    See `make_problem` for the other arguments.
    """
    if not isinstance(oracle, Oracle):
        raise TypeError(
            f"`oracle` must be an `oracles.Oracle`, got {type(oracle).__name__}; wrap "
            "a function: `Oracle(fn, answers='probabilities', num_classes=10)`."
        )
    epsilon, bounds = _check_sizes(epsilon, bounds)
    split, known = _make_split(images, labels, bounds)
    count = oracle.num_classes
    checks.check_labels(split.labels, len(split), count)
    return _finish(None, split, count, "oracle", epsilon, bounds), known


def _check_sizes(epsilon: Any, bounds: Any) -> tuple[float, Bounds]:
    """Return the bounds of perturbation and pixels as Python floats."""
    checked = checks.check_bounds(bounds)
    checks.check_at_least("epsilon", epsilon, 0)
    if not checks.is_concrete(epsilon):
        raise TypeError("`epsilon` must be a known number, got a traced one.")
    value = float(jax.device_get(epsilon))
    warn_of_epsilon(value, checked)
    return value, checked


def _units(bounds: Bounds) -> tuple[float, float]:
    """Return the pixel that becomes 0, and the pixels in a unit."""
    return bounds[0], bounds[1] - bounds[0]


def _finish(
    logits_fn: Any,
    split: Split,
    num_classes: int,
    name: str,
    epsilon: float,
    bounds: Bounds,
) -> Problem:
    size = epsilon / _units(bounds)[1]
    return Problem(logits_fn, split, num_classes, size, name, epsilon, bounds)


def _make_images(images: ArrayLike, bounds: Bounds) -> np.ndarray:
    """Return images as uint8, or as float32 in [0, 1]; see `make_problem`."""
    pixels = np.asarray(images)
    checks.check_image_axes(pixels)
    warn_of_layout(pixels, bounds)
    if pixels.dtype != np.uint8:
        pixels = np.asarray(checks.as_images(pixels, bounds))
        if bounds != (0, 1):
            low, scale = _units(bounds)
            pixels = np.clip((pixels - low) / scale, 0, 1)
        pixels = pixels.astype(np.float32, copy=False)
    if not pixels.size:
        raise ValueError(f"`images` must hold at least one, got {pixels.shape}.")
    return pixels


def _make_split(
    images: ArrayLike | Split,
    labels: ArrayLike | None,
    bounds: Bounds,
) -> tuple[Split, bool]:
    """Return images in units of [0, 1], and whether their classes are known."""
    if isinstance(images, Split):
        if labels is not None:
            raise ValueError("A split has its own labels; omit `labels`.")
        return images, True
    pixels = _make_images(images, bounds)
    classes = np.zeros(len(pixels), np.int32) if labels is None else np.asarray(labels)
    if labels is not None:
        most = int(np.iinfo(np.int32).max)  # K is not known yet
        checks.check_labels(classes, len(pixels), most)
    return Split(pixels, classes.astype(np.int32, copy=False)), labels is not None


def _in_units(logits_fn: LogitsFn, low: float, scale: float, images: Array) -> Array:
    """Apply a model of other bounds to images in [0, 1]."""
    return logits_fn(low + scale * images)


def predict_all(logits_fn: LogitsFn, images: np.ndarray) -> np.ndarray:
    """Return the classes of any number of images in [0, 1], int32 `[N]`."""
    model = as_function(lambda images: logits_fn(to_float(images)))
    parts = []
    for start in range(0, len(images), _BATCH):
        # One size: the last batch is filled up with the last image.
        rows = np.minimum(np.arange(start, start + _BATCH), len(images) - 1)
        parts.append(np.asarray(predict(model, jnp.asarray(images[rows]))))
    return np.concatenate(parts)[: len(images)]


def identify(problem: Problem) -> dict[str, str]:
    """Return digests of the images and of the model, which a resumed run must match.

    A model is its program, the arrays that this uses, and logits of some images, for a
    program that calls the host does not show what it computes.
    """
    split = problem.images
    found = {"data": split.digest}
    if problem.logits_fn is not None:  # the ledger identifies a black box
        count = min(len(split), _NUM_PROBED)
        rows, _ = split.rows(np.linspace(0, len(split) - 1, count).astype(int))
        images, model = jnp.asarray(to_float(rows)), as_function(problem.logits_fn)
        traced = tracing.Function(model.fn).like(images)
        logits = np.asarray(tracing.run(_apply, {"model": traced}, images))
        values = [
            digest.program_text(model.fn, images),
            list(map(digest.of_array, jax.tree.leaves(traced))),
            _coarsely(logits).tolist(),
        ]
        found["model"] = digest.of_json(values)[: digest.SHORT]
    return found


def _apply(models: Mapping[str, LogitsFn], images: Array) -> Array:
    return models["model"](images)


def _coarsely(logits: np.ndarray) -> np.ndarray:
    """Round logits, so that the rounding of another machine seldom changes them."""
    size = np.max(np.abs(logits), initial=0, where=np.isfinite(logits))
    step = 2.0 ** np.floor(np.log2(size)) / 64 if size else 1.0
    return np.round(np.nan_to_num(logits, posinf=3e38, neginf=-3e38) / step)
