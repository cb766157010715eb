"""Rules of derivatives: whether a library wrote them, and what they compute."""

import importlib.util
import os
import types
from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

# Packages whose objects compare by value.
VALUES = {"builtins", "jax", "jaxlib", "ml_dtypes", "numpy"}
# Packages whose functions never change what they compute.
_FIXED = ("jax", "flax", "optax", "advgan_jax")
_KNOWN = {*VALUES, *_FIXED, "functools"}


def _folders() -> tuple[str, ...]:
    """Return the folders of the packages whose functions never change."""
    found = filter(None, map(importlib.util.find_spec, _FIXED))
    places = (spec.submodule_search_locations or () for spec in found)
    return tuple(folder + os.sep for place in places for folder in place)


_LIBRARIES = _folders()
# Attributes by which JAX's own objects refer to functions.
_PARTS = ("f", "fun", "jvp", "fwd", "bwd", "transforms", "params", "__wrapped__")


def package(kind: type) -> str:
    """Return the package that defines a type."""
    return kind.__module__.partition(".")[0]


def is_of_library(fn: types.FunctionType) -> bool:
    """Return whether the code of a function is that of a library."""
    return fn.__code__.co_filename.startswith(_LIBRARIES)


def differentiate(equation: JaxprEqn) -> ClosedJaxpr:
    """Return what the rule of an equation computes: its derivative as a program."""
    return jax.make_jaxpr(partial(_differentiate, equation))(
        [atom.aval for atom in equation.invars],
        [atom.aval for atom in _differentiated(equation)],
    )


def _differentiated(equation: JaxprEqn) -> list[Any]:
    """Return what has a derivative: inputs in forward mode, else outputs."""
    forward = equation.primitive.name == "custom_jvp_call"
    atoms: Any = equation.invars if forward else equation.outvars
    return [atom for atom in atoms if jnp.issubdtype(atom.aval.dtype, jnp.inexact)]


def _differentiate(equation: JaxprEqn, inputs: list[Any], slopes: list[Any]) -> Any:
    """Apply the rule of an equation to inputs and derivatives."""
    params = equation.primitive.get_bind_params(equation.params)
    fn = partial(equation.primitive.bind, **params)
    given, real = iter(slopes), _differentiated(equation)

    def _slope(atom: Any) -> Any:
        if any(atom is one for one in real):
            return next(given)
        return np.zeros(atom.aval.shape, jax.dtypes.float0)

    if equation.primitive.name == "custom_jvp_call":
        return jax.jvp(fn, inputs, list(map(_slope, equation.invars)))
    outputs, pull_back = jax.vjp(fn, *inputs)
    return outputs, pull_back(list(map(_slope, equation.outvars)))


def library_code(functions: Iterable[Any]) -> Hashable | None:
    """Return the code that functions run; None if some of it may be of no library.

    Follows closures, arguments and wrappers. An array or an unknown object among them
    gives None too.
    """
    todo, seen, code = list(functions), {}, []
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, types.FunctionType):
            if not is_of_library(value):
                return None
            code.append(value.__code__)
            todo += [cell.cell_contents for cell in value.__closure__ or ()]
            todo += [
                *(value.__defaults__ or ()),
                *(value.__kwdefaults__ or {}).values(),
            ]
        elif isinstance(value, types.MethodType):
            todo += [value.__func__, value.__self__]
        elif isinstance(value, partial):
            todo += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, tuple | list | set | frozenset):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, type | types.ModuleType):
            name = getattr(value, "__module__", value.__name__)
            if name.partition(".")[0] not in _KNOWN:
                return None
        elif isinstance(value, jax.Array) or package(type(value)) not in _KNOWN:
            return None
        else:
            todo += [getattr(value, part) for part in _PARTS if hasattr(value, part)]
    return frozenset(code)
