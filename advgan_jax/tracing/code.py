"""Traced functions: their steps, apart from the arrays they use."""

import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.errors import TraceContextError
from jax.core import ShapedArray  # pyright: ignore
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.sharding import AxisType

from advgan_jax.tracing.structure import Structure, is_host_array

# What to do with a function of NumPy.
WRAP = "wrap it: `advgan_jax.interop.from_host(fn, num_classes)`."
# What NumPy, `if`, `float`, an integer and a mask raise for a traced array.
_NO_VALUE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
# Host arrays of at most this many elements, such as the mean and the deviation of a
# normalisation, stay constants, which XLA folds.
_FEW = 32


class Code:
    """What a function computes from inputs of known types.

    Two traces that compute the same have one `Code` object, so it compares by identity.

    Attributes:
      inputs: the types of the inputs.
      structure: equal for equal code; see `Structure`.
    """

    def __init__(
        self, reader: "_Reader", inputs: tuple[Any, ...], outs: list[Any], tree: Any
    ):
        self.inputs: tuple[Any, ...] = inputs
        self.structure: Hashable = reader.structure_of(inputs, outs, tree)
        self._steps, self._size = reader.steps, reader.size
        self._places, self._outs, self._tree = reader.places, outs, tree

    def __call__(self, consts: Sequence[Any], inputs: Sequence[Any]) -> Any:
        """Compute the outputs."""
        values: list[Any] = [None] * self._size
        values[: len(inputs)] = inputs
        for place, const in zip(self._places, consts, strict=True):
            values[place] = const

        def _read(atom: Any) -> Any:
            return values[atom] if isinstance(atom, int) else atom.val

        for equation, given, first in self._steps:
            bound = equation.primitive.get_bind_params(equation.params)
            with _context(equation):
                made = equation.primitive.bind(*map(_read, given), **bound)
            made = made if equation.primitive.multiple_results else [made]
            values[first : first + len(made)] = made
        return jax.tree.unflatten(self._tree, map(_read, self._outs))

    def calls(self, name: str) -> bool:
        """Return whether a compiled function of this name is part of the program."""
        return any(_calls(equation, name) for equation, _, _ in self._steps)


def _calls(equation: JaxprEqn, name: str) -> bool:
    """Return whether an equation, or a program in it, calls a function of a name."""
    if equation.params.get("name") == name:
        return True
    values = [v for v in equation.params.values() if isinstance(v, tuple | list)]
    parts = (*equation.params.values(), *(part for value in values for part in value))
    programs = (part.jaxpr for part in parts if isinstance(part, ClosedJaxpr))
    plain = (part for part in parts if isinstance(part, Jaxpr))
    return any(
        _calls(inner, name) for jaxpr in (*programs, *plain) for inner in jaxpr.eqns
    )


_codes: weakref.WeakValueDictionary[Hashable, Code] = weakref.WeakValueDictionary()


class Trace(NamedTuple):
    """A function traced once: its code, and the arrays it uses.

    Attributes:
      code: shared by all traces that compute the same.
      arrays: closed over, in the order in which the code reads them.
      outputs: `jax.ShapeDtypeStruct`s, as the function returns them.
    """

    code: Code
    arrays: list[Any]
    outputs: Any


def type_of(array: Any) -> Any:
    """Return the type of an array or of a `ShapeDtypeStruct`, without its place.

    Only explicit and varying axes of a mesh belong to the type.
    """
    if not isinstance(array, jax.ShapeDtypeStruct):
        aval: Any = jax.typeof(array)
        explicit = AxisType.Explicit in (aval.sharding.mesh.axis_types or ())
        # JAX 0.10.2 moved it.
        axes = getattr(aval, "manual_axis_type", None)
        varying = aval.vma if axes is None else axes.varying
        if explicit or varying:
            return aval.update(weak_type=False)
    return ShapedArray(array.shape, array.dtype)


def trace(fn: Callable[..., Any], types: tuple[Any, ...], *, name: str) -> Trace:
    """Trace a function of arrays; errors name it `name`.

    Raises:
      TypeError: if it is not a function of JAX.
      ValueError: if it changes a Flax module.
    """

    def _fresh(*inputs: Any) -> Any:
        return fn(*inputs)  # `make_jaxpr` remembers functions, but not this one

    try:
        closed, outputs = jax.make_jaxpr(_fresh, return_shape=True)(*types)
    except _NO_VALUE as error:
        raise TypeError(
            f"`{name}` must be a function of JAX, got one that needs the values of its "
            "images, as NumPy, `float` and `if` do; write it with `jax.numpy`, or "
            f"{WRAP}"
        ) from error
    except TraceContextError as error:
        raise ValueError(
            f"`{name}` must not change between calls, got a Flax module that updates "
            "its own variables, as dropout and batch normalisation do in training; "
            "call its `.eval()` first."
        ) from error
    reader = _Reader(len(types))
    outs = reader.read(closed, range(len(types)))
    code = Code(reader, types, outs, jax.tree.structure(outputs))
    return Trace(_codes.setdefault(code.structure, code), reader.arrays, outputs)


class _Reader:
    """Reads a traced program into steps on numbered values."""

    def __init__(self, num_inputs: int):
        self.size: int = num_inputs
        self.steps: list[tuple[JaxprEqn, list[Any], int]] = []
        self.arrays: list[Any] = []
        self.places: list[int] = []  # where the steps find the arrays
        self._place_of: dict[int, int] = {}
        self._structure = Structure()

    def read(self, closed: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
        """Add the steps of a program to its inputs; return its outputs."""
        jaxpr: Jaxpr = closed.jaxpr
        values: dict[Any, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, const in zip(jaxpr.constvars, closed.consts, strict=True):
            values[variable] = self._const(Literal(const, variable.aval))

        def _read(atom: Any) -> Any:
            return self._const(atom) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            given = list(map(_read, equation.invars))
            if _closes_over(equation):
                made = self.read(equation.params["jaxpr"], given)
            else:
                self.steps.append((equation, given, self.size))
                made = range(self.size, self.size + len(equation.outvars))
                self.size += len(made)
            values.update(zip(equation.outvars, made, strict=True))
        return list(map(_read, jaxpr.outvars))

    def _const(self, literal: Literal) -> Any:
        """Return the place of an array; small constants of the host stay literals."""
        value: Any = literal.val
        if is_host_array(value) or not isinstance(value, jax.Array):
            value = np.asarray(value)
            if value.size <= _FEW:
                return literal
        place = self._place_of.get(id(literal.val))
        if place is None:
            place = self._place_of[id(literal.val)] = self.size
            self.places.append(place)
            self.arrays.append(value)
            self.size += 1
        return place

    def structure_of(
        self, inputs: tuple[Any, ...], outs: list[Any], tree: Any
    ) -> Hashable:
        """Return all that decides what the steps compute."""

        def _atom(atom: Any) -> Hashable:
            return atom if isinstance(atom, int) else self._structure.literal(atom)

        steps = tuple(
            self._structure.equation(equation, tuple(map(_atom, given)))
            for equation, given, _ in self.steps
        )
        consts = [(type_of(a), jax.typeof(a).weak_type) for a in self.arrays]
        places = tuple(self.places)
        return inputs, tuple(consts), places, steps, tuple(map(_atom, outs)), tree


def _context(equation: JaxprEqn) -> AbstractContextManager:
    """Return the settings that a function made for an equation, if it made some."""
    context = equation.ctx
    random = context.threefry_partitionable
    own = random != jax.config.jax_threefry_partitionable  # type: ignore
    special = own or context.compute_type or context.xla_metadata
    return context.manager if special else nullcontext()


def _closes_over(equation: JaxprEqn) -> bool:
    """Return whether an equation is a compiled function that contains arrays."""
    if equation.primitive.name not in ("jit", "pjit"):
        return False
    inner = equation.params["jaxpr"]
    return bool(inner.consts) or any(map(_closes_over, inner.jaxpr.eqns))
