"""Checks of the arguments of all attacks, and their compilation.

`@attack` turns a pure core into a public attack. Outside `jit` the attack also checks
values. It traces the model, and runs the core under `jax.jit` with the model's arrays
as arguments (see `tracing`). A second call with the same shapes and other weights, or
another epsilon, compiles nothing. Inside a caller's own `jit`, `vmap` or `shard_map`
the core is inlined, and only shapes, dtypes and Python numbers are checked. No gradient
flows through an attack.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from advgan_jax import checks, tracing, types
from advgan_jax.attacks._units import run_in_unit
from advgan_jax.cpu import loops
from advgan_jax.logits import as_function, check_inputs, warn_of_epsilon
from advgan_jax.types import Array, LogitsFn

_P = ParamSpec("_P")
_Result = TypeVar("_Result", covariant=True)
_Function = TypeVar("_Function", bound=Callable)

# All other numbers may be 0.
_POSITIVE = {
    *("exploration", "initial_distance_weight", "initial_loss_weight"),
    *("learning_rate", "max_const", "min_tau", "prior_step_size", "radius"),
    *("step_size", "tau_factor"),
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
    unit: bool = False,
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
      functions: hyper-parameters that are functions of arrays, such as a generator.
      random: whether a key is needed, or the bool hyper-parameter that decides it.
      unit: whether the core runs on images mapped to [0, 1], because some of its
        constants are lengths; see `run_in_unit`.

    Returns:
      The decorator. It keeps the signature and adds the shared arguments to the
      docstring.
    """

    def _decorate(core: Any) -> Any:
        name = core.__name__.removesuffix("_search")  # errors name the attack
        defaults = keyword_defaults(core)
        placed = functools.partial(run_in_unit, core) if unit else core

        @functools.wraps(core)
        def _public(logits_fn, images, labels=None, **hyperparams):
            refuse_unknown(name, defaults, hyperparams)
            values = {**defaults, **hyperparams}
            settings, numbers = sort_arguments(defaults, values, static, functions)
            if settings["targeted"] and labels is None:
                raise ValueError(
                    f"`{name}` with `targeted=True` needs `labels`, the wanted classes "
                    "of shape [B], got None."
                )
            models = {name: as_function(values[name], name) for name in functions}
            models["logits_fn"] = model = as_function(logits_fn)
            images, labels = check_inputs(model, images, labels, settings["bounds"])
            needed = settings[random] if isinstance(random, str) else random
            key = values["key"] if needed else None
            if needed:
                checks.check_key(name, key)
            warn_of_epsilon(
                numbers.get("epsilon"),
                settings["bounds"],
                norm=settings.get("norm", "linf"),
                shape=images.shape,
            )
            traced = {name: _number(v, images.dtype) for name, v in numbers.items()}
            settings = tuple(sorted(settings.items()))
            arrays = images, labels, {"key": key, **traced}
            return tracing.call(_run, models, *arrays, core=placed, settings=settings)

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
    models: Mapping[str, tracing.Traced],
    images: Array,
    labels: Array | None,
    traced: dict[str, Any],
    *,
    core: Callable,
    settings: tuple[tuple[str, Any], ...],
) -> Any:
    """Run the core on a model that is fast in loops; `attack` compiles this."""
    models, images = lax.stop_gradient((dict(models), images))
    ready = loops.loop_ready(models.pop("logits_fn"))

    def _model(x: Array) -> Array:
        # Losses and margins of a half-precision model are computed in full precision.
        return ready(x).astype(images.dtype)

    if labels is None:
        labels = jnp.argmax(_model(images), axis=-1).astype(jnp.int32)
    result = core(_model, images, labels, **traced, **models, **dict(settings))
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


def sort_arguments(
    defaults: Mapping[str, Any],
    values: Mapping[str, Any],
    static: Sequence[str],
    functions: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the arguments; return settings to compile in, and real numbers."""
    settings = {name: _static(name, values[name]) for name in static}
    for name in static:
        if isinstance(defaults[name], bool) and not isinstance(settings[name], bool):
            raise TypeError(f"`{name}` must be True or False, got {values[name]!r}.")
    if not isinstance(values["targeted"], bool | np.bool_):
        raise TypeError(
            f"`targeted` must be True or False, got {values['targeted']!r}."
        )
    bounds = checks.check_bounds(values["bounds"])
    settings |= {"targeted": bool(values["targeted"]), "bounds": bounds}
    rest = set(values) - set(settings) - {"key", *functions}
    numbers = {name: _concrete(values[name]) for name in sorted(rest)}
    _check_numbers(numbers, defaults)
    return settings, numbers


def _concrete(value: Any) -> Any:
    """Copy a JAX number whose value is known to the host."""
    known = isinstance(value, jax.Array) and checks.is_concrete(value)
    return jax.device_get(value) if known else value


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
    omitted = {n for n in values if values[n] is None and defaults[n] is None}
    for name in sorted(set(values) - omitted):
        value = values[name]
        checks.check_at_least(name, value, 0)
        if name in _POSITIVE and checks.is_concrete(value) and value == 0:
            raise ValueError(f"`{name}` must be > 0, got {value}.")
        if name == "tau_factor" and checks.is_concrete(value) and value >= 1:
            raise ValueError(f"`{name}` must be < 1, got {value}.")
    epsilon, step_size = values.get("epsilon"), values.get("step_size")
    if epsilon is None or step_size is None:
        return
    # In float32, because an array of 0.3 exceeds the Python number.
    if checks.is_concrete(epsilon, step_size) and (
        np.float32(step_size) > np.float32(epsilon) > 0
    ):
        raise ValueError(
            f"`step_size` must not exceed `epsilon`, got {step_size} > {epsilon}; the "
            "projection would undo a longer step. Omit `step_size` to derive it."
        )


def _number(value: Any, dtype: Any) -> Array | None:
    """Return a number as an array, and None as None."""
    if value is None:
        return None
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    # An array, also in a caller's program: another number is no other program.
    with jax.ensure_compile_time_eval():
        return tracing.on_device(np.asarray(value, dtype))
