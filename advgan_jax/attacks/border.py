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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from advgan_jax import checks
from advgan_jax.attacks import model_checks, parameter_checks
from advgan_jax.cpu import loops
from advgan_jax.types import Array, LogitsFn


def attack(
    *,
    static: Sequence[str] = (),
    functions: Sequence[str] = (),
    random: bool | str = False,
    jit: bool = True,
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
      jit: False for cores that call back into Python; they see no tracers of ours.

    Returns:
      The decorator. It keeps the signature and the docstring.
    """

    def decorate(core: Callable) -> Callable:
        run = partial(_run, core)
        if jit:
            run = jax.jit(run, static_argnames="settings", inline=True)

        @functools.wraps(core)
        def public(logits_fn, images, labels=None, **hyperparams):
            values = {**keyword_defaults(core), **hyperparams}
            refuse_unknown(core, hyperparams)
            settings, models, numbers = _sort(core, values, static, functions)
            parameter_checks.check_labels_given(core.__name__, labels, settings)
            logits_fn = as_pytree(logits_fn)
            images, labels = model_checks.check_inputs(
                logits_fn, images, labels, settings["bounds"]
            )
            needed = settings[random] if isinstance(random, str) else random
            key = values["key"] if needed else None
            if needed:
                parameter_checks.check_key(core.__name__, key)
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
    settings = {name: parameter_checks.static(name, values[name]) for name in static}
    settings["targeted"] = parameter_checks.static_bool("targeted", values["targeted"])
    settings["bounds"] = tuple(float(bound) for bound in values["bounds"])
    models = {name: as_pytree(values[name], name) for name in functions}
    rest = set(values) - set(settings) - set(models) - {"key"}
    numbers = {name: values[name] for name in sorted(rest)}
    parameter_checks.check_numbers(numbers, keyword_defaults(core))
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


def as_pytree(logits_fn: LogitsFn, name: str = "logits_fn") -> LogitsFn:
    """A model as `jit` takes it: a pytree that can be called.

    Models that are pytrees (`jax.tree_util.Partial`, Flax NNX modules) stay as they
    are: new weights need no new compilation. Plain functions are static: what they
    close over is read once, when they are compiled.

    Args:
      logits_fn: any JAX function `[B, H, W, C] -> [B, K]`.
      name: the argument's name for the message.

    Returns:
      The same function as a pytree.

    Raises:
      TypeError: if it cannot be called.
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
    # `Partial(model.apply, variables, train=False)`: a traced False is of no use.
    pairs = list(zip(leaves, is_array, strict=True))
    constants = tuple(None if traced else leaf for leaf, traced in pairs)
    arrays = [leaf if traced else None for leaf, traced in pairs]
    return Partial(_Rebuilt(treedef, constants), arrays)


class _Rebuilt(NamedTuple):
    """Calls a pytree of which some leaves are arrays and the others constants."""

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

    Flax modules and data classes compare by their fields, which need not show that the
    weights are others; or they have no hash at all.
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
    """Predicted classes, int32 `[B]`; `logits_fn` as `as_pytree` returns it."""
    return jnp.argmax(logits_fn(images), axis=-1).astype(jnp.int32)


def _number(value: Any, dtype: Any) -> Array | np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    return np.asarray(value, dtype)
