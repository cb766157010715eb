"""Structural equality of traced programs.

Two traces of one function share no object. `Structure` turns what a trace contains into
a value that can be hashed: equal for two traces that compute the same, and different
for any other two. What it does not know equals only itself.

Custom derivative rules are new objects in each trace. Rules whose code is that of a
library are the same where their code is; any other rule is differentiated, and its
program is compared. Host functions of callbacks compare by identity, or by their code
and the very variables that they read.
"""

import types
from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from advgan_jax.tracing import rules

_RULES = ("custom_jvp_call", "custom_vjp_call")


class Same:
    """An object that equals only itself, whatever its own equality says."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value: Any = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Owner(Same):
    """The object of a bound method: of two objects, each is a model of its own."""

    __slots__ = ()


class Number(NamedTuple):
    """A constant of a program: its type and its bytes (so NaN equals itself)."""

    dtype: str
    shape: tuple[int, ...]
    weak_type: bool
    data: bytes


def loosen(structure: Any) -> Any:
    """Return a structure with the kinds of numbers and objects instead of them."""
    if isinstance(structure, Number):
        return structure[:3]
    if isinstance(structure, Same) and not isinstance(structure, Owner):
        return type(structure.value)
    if isinstance(structure, tuple | frozenset):
        return type(structure)(map(loosen, structure))
    return structure


def number(value: Any, weak_type: bool = False) -> Number:
    """Return the structure of a NumPy array or a Python number."""
    array = np.asarray(value)
    return Number(str(array.dtype), array.shape, weak_type, array.tobytes())


def is_host_array(value: Any) -> bool:
    """Return whether a value is an array of NumPy, or JAX's copy of one."""
    if isinstance(value, np.ndarray | np.generic):
        return True
    array = not isinstance(value, jax.Array) and hasattr(value, "__array__")
    return array and rules.package(type(value)) in rules.VALUES


class Structure:
    """Structures of the parts of one trace; equal parts are examined once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Hashable]] = {}
        self._open: list[Hashable] = []  # custom calls whose rules are examined

    def equation(self, equation: JaxprEqn, inputs: tuple[Hashable, ...]) -> Hashable:
        """Return the structure of an equation whose inputs have these structures."""
        name, params = equation.primitive.name, equation.params
        if name in _RULES:
            rest = self._custom(equation)
        else:
            # The name of a compiled function, `<lambda>` say, computes nothing; those
            # that begin with `marked_` are looked for (`Code.calls`).
            marked = str(params.get("name", "")).startswith("marked_")
            hidden = ("name",) if name in ("jit", "pjit") and not marked else ()
            rest = self.value({k: v for k, v in params.items() if k not in hidden})
        context = self._once(equation.ctx, repr)
        return equation.primitive, inputs, len(equation.outvars), rest, context

    def value(self, value: Any) -> Hashable:
        """Return the structure of a parameter of an equation."""
        if value is None or isinstance(value, bool | int | str | bytes | type):
            return type(value), value
        if isinstance(value, float | complex | np.generic):
            return number(value)
        if isinstance(value, ClosedJaxpr):
            return self.jaxpr(value.jaxpr, value.consts)
        if isinstance(value, Jaxpr):
            return self.jaxpr(value)
        if isinstance(value, tuple | list):
            return type(value), tuple(map(self.value, value))
        if isinstance(value, dict):
            items = [(str(k), self.value(v)) for k, v in value.items()]
            return tuple(sorted(items, key=lambda item: item[0]))
        if isinstance(value, frozenset | set):
            return frozenset(map(self.value, value))
        if is_host_array(value):
            return number(value)
        if isinstance(value, jax.Array):
            return Same(value)
        return self.function(value)

    def jaxpr(self, jaxpr: Jaxpr, consts: Iterable[Any] = ()) -> Hashable:
        """Return the structure of a program and of the arrays in it."""
        program = self._once(jaxpr, self._program)
        return program, tuple(map(self.value, consts))

    def _program(self, jaxpr: Jaxpr) -> Hashable:
        inputs = (*jaxpr.constvars, *jaxpr.invars)
        numbers = {variable: i for i, variable in enumerate(inputs)}

        def _atom(atom: Any) -> Hashable:
            return self.literal(atom) if isinstance(atom, Literal) else numbers[atom]

        equations = []
        for equation in jaxpr.eqns:
            given = tuple(map(_atom, equation.invars))
            equations.append(self.equation(equation, given))
            for variable in equation.outvars:
                numbers[variable] = len(numbers)
        types_ = tuple(variable.aval for variable in inputs)
        return types_, tuple(equations), tuple(map(_atom, jaxpr.outvars))

    def literal(self, literal: Literal) -> Hashable:
        """Return the structure of a number that stands in a program."""
        value: Any = literal.val
        if isinstance(value, jax.Array):
            return Same(value)
        kind: Any = literal.aval
        weak_type = bool(getattr(kind, "weak_type", False))
        return number(np.asarray(value, kind.dtype), weak_type)

    def _once(self, value: Any, examine: Any) -> Hashable:
        """Examine an object of this trace once."""
        if id(value) not in self._known:
            # The object is kept, so that no other gets its address.
            self._known[id(value)] = value, examine(value)
        return self._known[id(value)][1]

    def _plain(self, value: Any) -> Hashable:
        """Return an object of JAX by value, any other by identity."""
        if rules.package(type(value)) in rules.VALUES:
            try:
                hash(value)
            except TypeError:
                return Same(value)
            return type(value), value
        return Same(value)

    def function(self, fn: Any) -> Hashable:
        """Return the structure of a host function, such as a callback's, or object."""
        if isinstance(fn, types.MethodType):
            return Owner(fn.__self__), self.function(fn.__func__)
        if isinstance(fn, partial):
            parts = (fn.func, *fn.args, *fn.keywords.values())
            return tuple(fn.keywords), tuple(map(self._argument, parts))
        if isinstance(fn, types.FunctionType):
            # JAX wraps functions in closures that it never changes; the variables of
            # any other closure may be assigned again, so they must be the same ones.
            cells = fn.__closure__ or ()
            known = rules.is_of_library(fn)
            read = [
                self._argument(c.cell_contents) if known else Same(c) for c in cells
            ]
            defaults = (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())
            given = tuple(map(self._argument, defaults))
            return fn.__code__, Same(fn.__globals__), given, tuple(read)
        fields = getattr(type(fn), "__dataclass_fields__", None)
        if fields and callable(fn) and rules.package(type(fn)) == "jax":
            values = (getattr(fn, name) for name in fields)
            return type(fn), tuple(map(self._argument, values))
        return self._plain(fn)

    def _argument(self, value: Any) -> Hashable:
        """Return the structure of what a host function reads."""
        if isinstance(value, tuple):
            return type(value), tuple(map(self._argument, value))
        if value is None or isinstance(value, bool | int | float | str | bytes | type):
            return self.value(value)
        # A host function reads the present content of a list or an array.
        mutable = isinstance(value, list | dict | set) or is_host_array(value)
        return Same(value) if mutable else self.function(value)

    def _custom(self, equation: JaxprEqn) -> Hashable:
        """Return the structure of a call with a derivative rule of its own."""
        params = dict(equation.params)
        primal = self.value(params.pop("call_jaxpr"))
        plain = {k: v for k, v in params.items() if isinstance(v, int)}
        functions = [v for k, v in params.items() if k not in plain]
        code = rules.library_code(functions)
        if code is None:
            code = self._rule(equation, primal)
        return primal, tuple(plain.items()), code

    def _rule(self, equation: JaxprEqn, primal: Hashable) -> Hashable:
        """Return the structure of a differentiated equation."""
        if primal in self._open:  # a rule that calls the function itself
            return "itself", self._open.index(primal)
        self._open.append(primal)
        try:
            closed = rules.differentiate(equation)
            return self.jaxpr(closed.jaxpr, closed.consts)
        except Exception:  # Code of the user: a rule that fails equals only itself.
            return Same(equation)
        finally:
            self._open.pop()
