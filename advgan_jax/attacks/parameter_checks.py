"""Checks of an attack's own arguments: numbers, names, keys."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import check_at_least, is_concrete

# All other numbers may be 0 as well.
_POSITIVE = {
    "initial_const",
    "largest_const",
    "learning_rate",
    "least_tau",
    "step_size",
    "tau_factor",
}
_BELOW_ONE = {"tau_factor"}
_MAY_BE_ZERO = {"num_steps"}


def check_labels_given(name: str, labels: Any, settings: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a targeted attack without wanted classes."""
    if settings["targeted"] and labels is None:
        raise ValueError(
            f"`{name}` with `targeted=True` needs `labels`, the wanted classes of "
            "shape [B], got None."
        )


def static_bool(name: str, value: Any) -> bool:
    """The value as a Python bool; `TypeError` if it is none."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def static(name: str, value: Any) -> Any:
    """Checks a static hyper-parameter: counts, bools and names.

    Args:
      name: names that begin with `num_` are counts.
      value: what was given.

    Returns:
      The value as a plain Python object.

    Raises:
      TypeError: if it is of another kind.
      ValueError: if a count is too small.
    """
    if isinstance(value, str | bool) or value is None:
        if name.startswith("num_") and value is not None:
            raise TypeError(f"`{name}` must be an integer, got {value!r}.")
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if not isinstance(value, int | np.integer):
        raise TypeError(
            f"`{name}` must be a Python integer, bool or name, got {value!r} of type "
            f"{type(value).__name__}; it decides what is compiled."
        )
    least = 0 if name in _MAY_BE_ZERO else 1
    if name.startswith("num_") and value < least:
        raise ValueError(f"`{name}` must be an integer >= {least}, got {value}.")
    return int(value)


def check_numbers(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Checks the hyper-parameters that are real numbers.

    Args:
      values: by name.
      defaults: by name; a number may be None only where its default is.

    Raises:
      TypeError: if one is not a scalar.
      ValueError: if one is negative, not finite, or zero or one where that is
        meaningless; or if a step is larger than the ball.
    """
    for name, value in values.items():
        if value is None and defaults[name] is None:
            continue
        if not _is_real_scalar(value):
            raise TypeError(f"`{name}` must be a real number, got {value!r}.")
        check_at_least(name, value, 0)
        if name in _POSITIVE and is_concrete(value) and value == 0:
            raise ValueError(f"`{name}` must be > 0, got {value}.")
        if name in _BELOW_ONE and is_concrete(value) and value >= 1:
            raise ValueError(f"`{name}` must be < 1, got {value}.")
    epsilon, step_size = values.get("epsilon"), values.get("step_size")
    if epsilon is None or step_size is None or not is_concrete(epsilon, step_size):
        return
    if step_size > epsilon > 0:
        raise ValueError(
            f"`step_size` must not exceed `epsilon`, got {step_size} > {epsilon}; a "
            "longer step only leaves the ball. Leave `step_size` out to derive it."
        )


def _is_real_scalar(value: Any) -> bool:
    if isinstance(value, bool | str):
        return False
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(
            value.dtype, jnp.integer
        )
        return value.shape == () and real
    return isinstance(value, int | float)


def check_key(name: str, key: Any) -> None:
    """Checks the key of an attack that draws random numbers.

    Args:
      name: the attack's name for the message.
      key: what should be one typed key.

    Raises:
      TypeError: if it is not a typed key.
      ValueError: if it is missing, or there are several.
    """
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
