"""Check input; each error states what was expected, what came, and the cure.

A wrong type or dtype raises `TypeError`, anything else `ValueError`. Shapes and dtypes
are always checked; values only outside `jit`, where they are known.
"""

import importlib
import warnings
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from advgan_jax.names import unknown_name
from advgan_jax.numbers import (
    LARGEST_SEED,
    ORDERS,
    check_at_least,
    check_class,
    check_integer,
    check_levels,
    check_seed,
    check_share,
    is_concrete,
    is_real,
)
from advgan_jax.types import Array, Bounds

__all__ = [
    "LARGEST_SEED",
    "ROUNDING",
    "SUM_TOLERANCE",
    "as_images",
    "check_at_least",
    "check_bounds",
    "check_class",
    "check_image_axes",
    "check_integer",
    "check_key",
    "check_labels",
    "check_levels",
    "check_seed",
    "check_share",
    "is_concrete",
    "is_jax",
    "is_real",
    "largest_distance",
    "optional_library",
    "to_float",
    "unknown_name",
    "warn_of_axes",
]

# Rows of a softmax sum to one within 1e-6 in float32, 1e-3 in half precision.
SUM_TOLERANCE = 1e-3
# Sums of float32 pixels, and other ways of scaling pixels to [0, 1], differ by less
# than one step of float32 at 1.
ROUNDING = 2.0**-23

ImagesT = TypeVar("ImagesT", bound=np.ndarray | jax.Array)


def is_jax(array: Any) -> bool:
    """Return whether an array is JAX's, concrete or traced."""
    return isinstance(array, jax.Array)


def optional_library(name: str, user: str, install: str | None = None) -> Any:
    """Import a library; else `ImportError` that `user` needs it, and the command.

    `install` is what `pip` installs, by default the name of the module.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        cure = f"python -m pip install {install or name}"
        raise ImportError(f"{user} needs {name}: {cure}") from error


def check_bounds(bounds: Any) -> Bounds:
    """Return `bounds` as Python floats.

    Raises `ValueError` unless they are two finite numbers, the lesser first.
    """
    wanted = "`bounds` must be two finite numbers, the same for all pixels"
    if not is_concrete(*jax.tree.leaves(bounds)):
        raise ValueError(f"{wanted}, got traced ones; they decide what is compiled.")
    try:
        values = np.asarray(jax.device_get(bounds))
    except ValueError:  # numbers and arrays of several shapes
        values = np.asarray(None)
    real = values.dtype.kind in "iuf" and values.shape == (2,)
    if not real or not np.isfinite(values).all():
        raise ValueError(f"{wanted}, got {bounds!r}.")
    least, greatest = map(float, values)
    if not least < greatest:
        raise ValueError(f"`bounds` must be (least, greatest), got {bounds!r}.")
    return least, greatest


def check_image_axes(images: Array | np.ndarray, *, warn: bool = False) -> None:
    """Raise `ValueError` unless images have shape `[B, H, W, C]`.

    With `warn`, a shape that looks like `[B, C, H, W]` is warned of.
    """
    if images.ndim != 4:
        raise ValueError(
            f"`images` must have shape [B, H, W, C], got {images.shape}; "
            "add the missing axis (`images[None]` for one image, "
            "`images[..., None]` for grey images without a channel)."
        )
    if warn:
        warn_of_axes(images, stacklevel=4)


def has_channels_first(images: Array | np.ndarray) -> bool:
    """Return whether images look like `[B, C, H, W]`."""
    low, high = sorted(images.shape[2:]) if images.ndim == 4 else (0, 0)
    return 4 < low <= high <= 4 * low and images.shape[1] in (1, 3)


def warn_of_axes(images: Array | np.ndarray, *, stacklevel: int) -> None:
    """Warn of images that look like `[B, C, H, W]`."""
    if has_channels_first(images):
        warnings.warn(
            f"`images` of shape {images.shape} look like [B, C, H, W]; attacks and "
            "models expect [B, H, W, C]: use `images.transpose(0, 2, 3, 1)`.",
            UserWarning,
            stacklevel=stacklevel,
        )


def to_float(
    images: ImagesT, bounds: Bounds = (0.0, 1.0), *, name: str = "images"
) -> ImagesT:
    r"""Convert pixels to floats; all inputs of the library follow this one rule.

    A uint8 pixel `k` means :math:`l + k (h - l) / 255` with `bounds` `(l, h)`. Floats
    of other precisions become float32, except float64 where JAX's x64 mode is on.

    Args:
      images: NumPy or JAX array of any shape.
      bounds: the values of black and white.
      name: of the argument in errors.

    Returns:
      An array of the same kind, with the same bits on every device.

    Raises:
      TypeError: for any other dtype.
    """
    given: Any = images  # either kind of array, with the same methods
    if images.dtype == np.uint8:
        low, high = bounds
        if (low, high) == (0, 1):
            # XLA divides by 255 with this product: the bits are the same everywhere.
            factor: Any = np.float32(1 / 255)
            if is_jax(given) and is_concrete(given):
                factor = jax.device_put(factor)
            return given.astype(np.float32) * factor
        steps = low + np.arange(256) * ((high - low) / 255)
        table: Any = np.clip(steps, low, high).astype(np.float32)
        found: Any = jax.device_put(table) if is_jax(given) else table
        return found[given]
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"`{name}` must be uint8 or floating, got {images.dtype}; if pixels are "
            "0..255 use `images.astype(np.uint8)`, else scale them to `bounds`."
        )
    # `result_type` is float64 only in x64 mode.
    double = images.dtype == np.float64 and jnp.result_type(float) == np.float64
    dtype: Any = np.float64 if double else np.float32
    return images if images.dtype == dtype else given.astype(dtype)


def as_images(
    images: Any, bounds: Bounds = (0.0, 1.0), *, name: str = "images"
) -> Array | np.ndarray:
    """Return images `[B, ...]` as floats within `bounds`; see `to_float`.

    JAX arrays stay on their device, anything else becomes a NumPy array. `TypeError`
    for a wrong dtype, `ValueError` for a wrong shape or value.
    """
    images = images if is_jax(images) else np.asarray(images)
    if images.ndim < 2:
        raise ValueError(
            f"`{name}` must have a batch axis, [B, H, W, C] or any [B, ...], got shape "
            f"{images.shape}; `images[None]` is a batch of one."
        )
    images = to_float(images, bounds, name=name)
    if not is_concrete(images) or images.size == 0:
        return images
    with jax.ensure_compile_time_eval():  # known images within a caller's program
        low, high = map(float, jax.device_get((images.min(), images.max())))
    # In the precision of the images: float32(0.3) is above the double 0.3.
    least, greatest = (float(images.dtype.type(bound)) for bound in bounds)
    # Comparisons with NaN are False.
    if not (least <= low and high <= greatest):
        raise ValueError(_describe_outside(np.asarray(images), bounds, name))
    return images


def _describe_outside(images: np.ndarray, bounds: Bounds, name: str) -> str:
    """Describe the pixels outside of `bounds` and the likely cure."""
    low, high = float(images.min()), float(images.max())
    wrong = ~((images >= np.float32(bounds[0])) & (images <= np.float32(bounds[1])))
    if not np.isfinite(images).all():
        wrong, cure = ~np.isfinite(images), "Remove or repair NaN and infinity."
    elif low < bounds[0]:
        cure = "Undo the normalisation, it belongs inside `logits_fn`."
    elif tuple(bounds) == (0, 1) and high > 2:
        # Few pictures of 8 bits have no pixel above 100.
        scale = 255 if 100 < high <= 255 else high
        cure = f"Divide by {scale:g}, or by the largest value that a pixel can have."
    else:
        cure = "If this is rounding, clip them; else set `bounds`."
    first = int(np.flatnonzero(wrong.reshape(len(images), -1).any(axis=1))[0])
    return (
        f"`{name}` must lie within bounds {tuple(bounds)}, got values from {low:g} to "
        f"{high:g}, the first wrong one in image {first}. {cure}"
    )


def largest_distance(
    epsilon: float,
    bounds: Bounds = (0.0, 1.0),
    *,
    norm: str = "linf",
    num_pixels: int = 1,
) -> float:
    r"""Return the largest distance that counts as within `epsilon`.

    Attacks compute in float32, while distances are measured in double precision. Three
    roundings separate the two, and nothing else may:

    .. math:: \mathrm{float32}(\epsilon) (1 + \delta) + 2^{-23} \sqrt{n} \max(|l|, |h|)

    Each pixel is rounded when it is added, by less than one step of float32 at the
    largest pixel value; in L2 the errors of all n pixels may point in one direction,
    and in L1, where n replaces its root, they add. An attack knows a sum of float32
    numbers, in L2 and L1, only to about :math:`\delta = 10^{-5}`.
    """
    pixel = ROUNDING * max(abs(bound) for bound in bounds)
    edge = float(np.float32(epsilon)) * (1 + 1e-5 * (norm != "linf"))
    return edge + pixel * num_pixels ** (1 / ORDERS[norm])


def check_labels(
    labels: Array | np.ndarray,
    num_images: int,
    num_classes: int,
    *,
    name: str = "labels",
) -> None:
    """Check that `labels` are integers `[num_images]` in `[0, num_classes)`."""
    if labels.shape == (num_images, 1):
        cure = f"take `{name}[:, 0]`"
    elif labels.ndim != 1:
        cure = "one-hot labels are not accepted, use `argmax(axis=-1)`"
    elif labels.dtype.kind in "OSU":  # objects and texts
        cure = f"number the classes: `np.unique({name}, return_inverse=True)[1]`"
    elif jnp.issubdtype(labels.dtype, jnp.integer):
        cure = f"give one label for each of the {num_images} images"
    else:
        cure = f"convert them, `{name}.astype(int)`"
    message = (
        f"`{name}` must be integer class ids of shape ({num_images},), got "
        f"{labels.dtype}{list(labels.shape)}; {cure}."
    )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(message)
    if labels.shape != (num_images,):
        raise ValueError(message)
    if is_concrete(labels) and labels.size:
        values = jax.device_get(labels)
        bad = np.flatnonzero((values < 0) | (values >= num_classes))
        if bad.size:
            raise ValueError(
                f"`{name}` must be in [0, {num_classes}), got {values[bad[0]]} at "
                f"index {bad[0]}; does the model have as many classes as the data?"
            )


def check_key(name: str, key: Any) -> None:
    """Check that an attack which draws random numbers has one typed key."""
    cure = "pass `key=jax.random.key(0)`"
    if key is None:
        raise ValueError(f"`{name}` draws random numbers and needs a key: {cure}.")
    if not isinstance(key, jax.Array) or not jnp.issubdtype(
        key.dtype, jax.dtypes.prng_key
    ):
        kind = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
        raise TypeError(
            f"`key` must be a typed key, got {kind}: {cure}, or wrap an old one with "
            "`jax.random.wrap_key_data`."
        )
    if key.ndim:
        raise ValueError(f"`key` must be one key, got shape {key.shape}: {cure}.")
