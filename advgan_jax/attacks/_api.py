"""The border that all attacks share: checks outside, one compiled function inside.

`@attack` turns a pure core into a public attack. Outside of `jit` it checks values
too; then it runs the core under `jax.jit` with the model as a pytree argument, so that
a second call with the same shapes and another epsilon compiles nothing. Inside a
caller's own `jit`, `vmap` or `shard_map` it is inlined, and only what shapes, dtypes
and Python numbers show is checked. Attacks are constants to whoever differentiates
around them.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from advgan_jax import checks
from advgan_jax.cpu import loops
from advgan_jax.logits import as_pytree, check_inputs, predict
from advgan_jax.types import Array, LogitsFn

# All other numbers may be 0 as well.
_POSITIVE = {
    "initial_distance_weight",
    "initial_loss_weight",
    "max_const",
    "learning_rate",
    "min_tau",
    "step_size",
    "tau_factor",
}
_BELOW_ONE = {"tau_factor"}
_MAY_BE_ZERO = {"num_steps"}


def _check_labels_given(name: str, labels: Any, settings: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a targeted attack without wanted classes."""
    if settings["targeted"] and labels is None:
        raise ValueError(
            f"`{name}` with `targeted=True` needs `labels`, the wanted classes of "
            "shape [B], got None."
        )


def _static_bool(name: str, value: Any) -> bool:
    """The value as a Python bool; `TypeError` if it is none."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def _static(name: str, value: Any) -> Any:
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


def _check_numbers(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
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
        checks.check_at_least(name, value, 0)
        if name in _POSITIVE and checks.is_concrete(value) and value == 0:
            raise ValueError(f"`{name}` must be > 0, got {value}.")
        if name in _BELOW_ONE and checks.is_concrete(value) and value >= 1:
            raise ValueError(f"`{name}` must be < 1, got {value}.")
    epsilon, step_size = values.get("epsilon"), values.get("step_size")
    if (
        epsilon is None
        or step_size is None
        or not checks.is_concrete(epsilon, step_size)
    ):
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


def attack(
    *,
    static: Sequence[str] = (),
    functions: Sequence[str] = (),
    random: bool | str = False,
) -> Callable[[Callable], Callable]:
    """Makes a public attack of its core.

    The core has the signature of `types.Attack`. It is called with labels that are
    never None, with a model that is fast inside compiled loops (`loops.loop_ready`) and
    whose logits have the images' dtype, and with checked hyper-parameters; those that
    are not static are arrays of the images' dtype.

    Args:
      static: hyper-parameters that change the compiled program: integers, bools,
        names. All others are real numbers `>= 0`, or None where that is the default.
      functions: hyper-parameters that are models themselves (pytrees that can be
        called, or plain functions).
      random: whether a key is needed; or the bool hyper-parameter that decides it.

    Returns:
      The decorator. It keeps the signature and the docstring.
    """

    def decorate(core: Callable) -> Callable:
        run = jax.jit(partial(_run, core), static_argnames="settings", inline=True)

        @functools.wraps(core)
        def public(logits_fn, images, labels=None, **hyperparams):
            values = {**keyword_defaults(core), **hyperparams}
            refuse_unknown(core, hyperparams)
            settings, models, numbers = _sort(core, values, static, functions)
            _check_labels_given(core.__name__, labels, settings)
            logits_fn = as_pytree(logits_fn)
            images, labels = check_inputs(logits_fn, images, labels, settings["bounds"])
            needed = settings[random] if isinstance(random, str) else random
            key = values["key"] if needed else None
            if needed:
                checks.check_key(core.__name__, key)
            traced = {name: _number(v, images.dtype) for name, v in numbers.items()}
            return run(
                logits_fn,
                images,
                labels,
                {"key": key, **traced, **models},
                settings=tuple(sorted(settings.items())),
            )

        return public

    return decorate


def _run(
    core: Callable,
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None,
    traced: dict[str, Any],
    *,
    settings: tuple[tuple[str, Any], ...],
) -> Any:
    logits_fn, images = lax.stop_gradient((logits_fn, images))
    ready = loops.loop_ready(logits_fn)

    def model(x: Array) -> Array:
        # Losses and margins of a half-precision model are taken in full precision.
        return ready(x).astype(images.dtype)

    if labels is None:
        labels = predict(Partial(model), images)
    result = core(model, images, labels, **traced, **dict(settings))
    return lax.stop_gradient(result)


def _sort(
    core: Callable,
    values: Mapping[str, Any],
    static: Sequence[str],
    functions: Sequence[str],
) -> tuple[dict[str, Any], dict[str, LogitsFn], dict[str, Any]]:
    """Checked arguments: what is compiled in, models, and real numbers."""
    checks.check_bounds(values["bounds"])
    settings = {name: _static(name, values[name]) for name in static}
    settings["targeted"] = _static_bool("targeted", values["targeted"])
    settings["bounds"] = tuple(float(bound) for bound in values["bounds"])
    models = {name: as_pytree(values[name], name) for name in functions}
    rest = set(values) - set(settings) - set(models) - {"key"}
    numbers = {name: values[name] for name in sorted(rest)}
    _check_numbers(numbers, keyword_defaults(core))
    return settings, models, numbers


def keyword_defaults(fn: Callable) -> dict[str, Any]:
    """The keyword-only parameters of an attack with their defaults."""
    parameters = inspect.signature(fn).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def refuse_unknown(fn: Callable, hyperparams: Mapping[str, Any]) -> None:
    """Checks the names of an attack's keyword arguments.

    Args:
      fn: the attack.
      hyperparams: its keyword arguments.

    Raises:
      TypeError: if one is unknown (lists the known ones), or a required one missing.
    """
    defaults = keyword_defaults(fn)
    name = fn.__name__
    for given in hyperparams:
        if given not in defaults:
            error = checks.unknown_name(f"argument of {name}", given, defaults)
            raise TypeError(str(error))
    for known, default in defaults.items():
        if default is inspect.Parameter.empty and known not in hyperparams:
            raise TypeError(f"`{name}` needs the argument `{known}`.")


def _number(value: Any, dtype: Any) -> Array | np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    return np.asarray(value, dtype)
