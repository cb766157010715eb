"""Check single numbers: counts, sizes, seeds and classes; measure distances.

`checks` re-exports the checks. A wrong type raises `TypeError`, a wrong value
`ValueError`. The values of tracers are not checked.
"""

import math
from typing import Any, TypeGuard

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

# Of the norms that measure how far images are.
ORDERS: dict[str, float] = {"linf": np.inf, "l2": 2, "l1": 1}
LARGEST_SEED = 2**32 - 1  # JAX's keys would take a larger seed modulo 2**32


def is_concrete(*arrays: Any) -> bool:
    """Return whether the values of all `arrays` are known (none is a tracer)."""
    return not any(isinstance(a, jax.core.Tracer) for a in arrays)


def is_real(value: Any) -> TypeGuard[float]:
    """Return whether a value is one real number, of Python, NumPy or JAX; no bool."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        kinds = (jnp.floating, jnp.integer)
        real = any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
        return value.shape == () and real
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_at_least(name: str, value: Any, least: float) -> None:
    """Check that `value` is a real number and, if concrete, finite and >= `least`."""
    _check_real(name, value, f"a real number >= {least:g}")
    if is_concrete(value):
        known = jax.device_get(value)
        if not (known >= least and math.isfinite(known)):
            raise ValueError(
                f"`{name}` must be a finite number >= {least:g}, got {value}."
            )


def _check_real(name: str, value: Any, wanted: str) -> None:
    if not is_real(value):
        several = hasattr(value, "__len__") and not isinstance(value, str)
        cure = "; pass one value for each call" if several else ""
        raise TypeError(f"`{name}` must be {wanted}, got {value!r}{cure}.")


def check_integer(name: str, value: Any, least: int | None) -> None:
    """Check that a Python or NumPy integer, no bool, is at least `least` if given."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        wanted = "an integer" if least is None else f"an integer >= {least}"
        kind = type(value).__name__
        raise TypeError(f"`{name}` must be {wanted}, got {value!r} of type {kind}.")
    if least is not None:
        check_at_least(name, value, least)


def check_share(name: str, value: float) -> None:
    """Check that `value` is a real number and, if concrete, in `[0, 1)`."""
    _check_real(name, value, "a real number in [0, 1)")
    if is_concrete(value) and not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1), got {value}.")


def check_seed(seed: Any, name: str = "seed") -> None:
    """Check that a seed is an integer in `[0, 2**32)`, so that no two agree."""
    check_integer(name, seed, 0)
    if seed > LARGEST_SEED:
        raise ValueError(
            f"`{name}` must be from 0 to {LARGEST_SEED} (2**32 - 1), got {seed}."
        )


def check_levels(levels: Any) -> None:
    """Raise `ValueError` unless `levels`, a number of grey levels, is possible."""
    whole = isinstance(levels, int | np.integer) and not isinstance(levels, bool)
    if not whole or not 2 <= levels <= 2**16:
        raise ValueError(
            f"`levels` must be an integer from 2 to 65536, got {levels!r}; files of 8 "
            "bits have 256."
        )


def check_class(target_class: int | None, num_classes: int) -> None:
    """Check that a wanted class is None or one of the model's."""
    if target_class is None:
        return
    check_integer("target_class", target_class, None)
    if 0 <= target_class < num_classes:
        return
    raise ValueError(
        f"`target_class` must be in [0, {num_classes}), got {target_class}; omit it "
        "for an untargeted attack."
    )


def distances(some: np.ndarray, others: np.ndarray, norm: str) -> np.ndarray:
    """Return the distances of pairs of images `[N, ...]`, float64 `[N]`."""
    change = np.subtract(some, others, dtype=np.float64)
    return np.linalg.norm(change.reshape(len(change), -1), ORDERS[norm], axis=1)
