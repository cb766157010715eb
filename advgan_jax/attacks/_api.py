"""Checks of the arguments of all attacks, and their compilation.

`@attack` turns a pure core into a public attack. Outside `jit` the attack also checks
values. It runs the core under `jax.jit` with the model as a pytree argument. A second
call with the same shapes and another epsilon compiles nothing. Inside a caller's
own `jit`, `vmap` or `shard_map` the core is inlined, and only shapes, dtypes and Python
numbers are checked. No gradient flows through an attack.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, Protocol, TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial
from jax.typing import ArrayLike

from advgan_jax import checks, types
from advgan_jax.cpu import loops
from advgan_jax.logits import as_pytree, check_inputs, predict
from advgan_jax.types import Array, LogitsFn

_P = ParamSpec("_P")
_Result = TypeVar("_Result", covariant=True)
_Function = TypeVar("_Function", bound=Callable)

# All other numbers may be 0.
_POSITIVE = {
    "initial_distance_weight",
    "initial_loss_weight",
    "learning_rate",
    "max_const",
    "min_tau",
    "step_size",
    "tau_factor",
}


class AttackFunction(Protocol[_P, _Result]):
    """A public attack: it keeps the keyword arguments of its core."""

    __name__: str

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _Result:
        """Run the attack; see `types.Attack`."""
        ...


def attack(
    *,
    static: Sequence[str] = (),
    functions: Sequence[str] = (),
    random: bool | str = False,
) -> Callable[
    [Callable[Concatenate[LogitsFn, Array, Array, _P], _Result]],
    AttackFunction[_P, _Result],
]:
    """Turn a core into a public attack.

    The core has the signature of `types.Attack`. Its labels are never None. Its model
    returns logits in the images' dtype and is fast inside compiled loops
    (`loops.loop_ready`). Its hyper-parameters are checked; those that are not static
    are arrays of the images' dtype.

    Args:
      static: hyper-parameters that change the compiled program: integers, bools,
        names. All others are real numbers `>= 0`, or None where that is the default.
      functions: hyper-parameters that are models: pytrees or plain functions.
      random: whether a key is needed, or the bool hyper-parameter that decides it.

    Returns:
      The decorator. It keeps the signature and adds the shared arguments to the
      docstring.
    """

    def _decorate(core: Any) -> Any:
        name = core.__name__.removesuffix("_search")  # errors name the attack
        defaults = keyword_defaults(core)
        run = jax.jit(partial(_run, core), static_argnames="settings", inline=True)

        @functools.wraps(core)
        def _public(logits_fn, images, labels=None, **hyperparams):
            refuse_unknown(name, defaults, hyperparams)
            values = {**defaults, **hyperparams}
            settings, models, numbers = _sort(defaults, values, static, functions)
            if settings["targeted"] and labels is None:
                raise ValueError(
                    f"`{name}` with `targeted=True` needs `labels`, the wanted classes "
                    "of shape [B], got None."
                )
            logits_fn = as_pytree(logits_fn)
            images, labels = check_inputs(logits_fn, images, labels, settings["bounds"])
            needed = settings[random] if isinstance(random, str) else random
            key = values["key"] if needed else None
            if needed:
                checks.check_key(name, key)
            traced = {name: _number(v, images.dtype) for name, v in numbers.items()}
            return run(
                logits_fn,
                images,
                labels,
                {"key": key, **traced, **models},
                settings=tuple(sorted(settings.items())),
            )

        # The core's own arguments, after those that all attacks take.
        shared = inspect.signature(AttackFunction.__call__).parameters.values()
        own = inspect.signature(core)
        parameters = [*list(shared)[1:4], *list(own.parameters.values())[3:]]
        described: Any = _public
        described.__signature__ = own.replace(parameters=parameters)
        return share_args(described)

    return _decorate


def images_of(
    search: AttackFunction[_P, Any], returns: str
) -> AttackFunction[_P, Array]:
    """Return the attack `NAME` that returns the images of the search `NAME_search`."""

    @functools.wraps(search)
    def _attack(logits_fn, images, labels=None, *args: _P.args, **kwargs: _P.kwargs):
        return search(logits_fn, images, labels, *args, **kwargs).images

    public: Any = _attack
    name = search.__name__.removesuffix("_search")
    public.__name__ = public.__qualname__ = name
    public.__signature__ = inspect.signature(search).replace(return_annotation=Array)
    section = f"Returns:\n  {returns}\n"
    public.__doc__ = re.sub(r"(?s)Returns:\n.*?\n(?=\n)", section, search.__doc__ or "")
    return public


def share_args(fn: _Function) -> _Function:
    """Complete the `Args` of a docstring by the shared ones of `types.Attack`."""
    if "Args:\n" not in (fn.__doc__ or ""):
        return fn
    known: dict[str, str] = {}
    for doc in (types.Attack.__call__.__doc__, fn.__doc__):
        head, _, rest = inspect.cleandoc(doc or "").partition("Args:\n")
        section, _, tail = rest.partition("\n\n")
        for entry in re.split(r"\n(?=  \S)", section):
            known[entry.split(":")[0].strip(" *")] = entry
    args = "\n".join(known[n] for n in inspect.signature(fn).parameters if n in known)
    fn.__doc__ = f"{head}Args:\n{args}\n\n{tail}"
    return fn


def _run(
    core: Callable,
    logits_fn: LogitsFn,
    images: Array,
    labels: Array | None,
    traced: dict[str, Any],
    *,
    settings: tuple[tuple[str, Any], ...],
) -> Any:
    """Run the core on a model that is fast in loops; `attack` compiles this."""
    logits_fn, images = lax.stop_gradient((logits_fn, images))
    ready = loops.loop_ready(logits_fn)

    def _model(x: Array) -> Array:
        # Losses and margins of a half-precision model are computed in full precision.
        return ready(x).astype(images.dtype)

    if labels is None:
        labels = predict(Partial(_model), images)
    result = core(_model, images, labels, **traced, **dict(settings))
    return lax.stop_gradient(result)


def keyword_defaults(fn: Callable) -> dict[str, Any]:
    """Return the keyword-only parameters of an attack with their defaults."""
    parameters = inspect.signature(fn).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def refuse_unknown(
    name: str, known: Mapping[str, Any], given: Mapping[str, Any], later: tuple = ()
) -> None:
    """Raise `TypeError` for unknown arguments, and missing ones not given `later`."""
    for argument in given:
        if argument not in known:
            error = checks.unknown_name(f"argument of {name}", argument, known)
            raise TypeError(str(error))
    for argument, default in known.items():
        if default is inspect.Parameter.empty and argument not in (*given, *later):
            raise TypeError(f"`{name}` needs the argument `{argument}`.")


def _sort(
    defaults: Mapping[str, Any],
    values: Mapping[str, Any],
    static: Sequence[str],
    functions: Sequence[str],
) -> tuple[dict[str, Any], dict[str, LogitsFn], dict[str, Any]]:
    """Check the arguments; return settings to compile in, models, and real numbers."""
    checks.check_bounds(values["bounds"])
    settings = {name: _static(name, values[name]) for name in static}
    if not isinstance(values["targeted"], bool | np.bool_):
        raise TypeError(
            f"`targeted` must be True or False, got {values['targeted']!r}."
        )
    bounds = tuple(float(bound) for bound in values["bounds"])
    settings |= {"targeted": bool(values["targeted"]), "bounds": bounds}
    models = {name: as_pytree(values[name], name) for name in functions}
    rest = set(values) - set(settings) - set(models) - {"key"}
    numbers = {name: values[name] for name in sorted(rest)}
    _check_numbers(numbers, defaults)
    return settings, models, numbers


def _static(name: str, value: Any) -> Any:
    """Check a static hyper-parameter; names that begin with `num_` are counts."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str | bool) or value is None:
        if name.startswith("num_") and value is not None:
            raise TypeError(f"`{name}` must be an integer, got {value!r}.")
        return value
    if not isinstance(value, int):
        raise TypeError(
            f"`{name}` must be a Python integer, bool or name, got {value!r} of type "
            f"{type(value).__name__}; it decides what is compiled."
        )
    least = 0 if name == "num_steps" else 1
    if name.startswith("num_") and value < least:
        raise ValueError(f"`{name}` must be an integer >= {least}, got {value}.")
    return value


def _check_numbers(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check real hyper-parameters; one may be None only where its default is."""
    for name, value in values.items():
        if value is None and defaults[name] is None:
            continue
        if not _is_real(value):
            raise TypeError(f"`{name}` must be a real number, got {value!r}.")
        checks.check_at_least(name, value, 0)
        if name in _POSITIVE and checks.is_concrete(value) and value == 0:
            raise ValueError(f"`{name}` must be > 0, got {value}.")
        if name == "tau_factor" and checks.is_concrete(value) and value >= 1:
            raise ValueError(f"`{name}` must be < 1, got {value}.")
    epsilon, step_size = values.get("epsilon"), values.get("step_size")
    if epsilon is None or step_size is None:
        return
    if checks.is_concrete(epsilon, step_size) and step_size > epsilon > 0:
        raise ValueError(
            f"`step_size` must not exceed `epsilon`, got {step_size} > {epsilon}; the "
            "projection would undo a longer step. Omit `step_size` to derive it."
        )


def _is_real(value: Any) -> TypeGuard[float]:
    """Whether a value is one real number, of Python, NumPy or JAX."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        kinds = (jnp.floating, jnp.integer)
        real = any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
        return value.shape == () and real
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, dtype: Any) -> Array | np.ndarray | None:
    """Return a number as an array that `jit` traces, and None as None."""
    if value is None:
        return None
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    return np.asarray(value, dtype)
