"""Compiled programs, found by what functions compute rather than by their names."""

import functools
import threading
import warnings
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from advgan_jax.checks import is_concrete
from advgan_jax.cpu.compiling import compiler_options
from advgan_jax.tracing.code import Code, Trace, trace, type_of
from advgan_jax.tracing.structure import loosen
from advgan_jax.types import Array

# How many compiled programs are kept, of all functions together.
MOST_PROGRAMS = 64


class Untraced(Exception):
    """A traced function was called with other types of inputs."""

    def __init__(self, name: str, types: tuple[Any, ...]):
        super().__init__(f"`{name}` was not traced for {types}.")
        self.name: str = name
        self.types: tuple[Any, ...] = types


@jax.tree_util.register_pytree_node_class
class Traced:
    """A function for some types of inputs, as a pytree of the arrays it uses.

    Two such functions that compute the same have the same tree structure, so `jit`
    compiles once for both. Other types of inputs raise `Untraced`.
    """

    def __init__(self, name: str, programs: tuple[Any, ...], arrays: Sequence[Any]):
        self._name, self._programs, self._arrays = name, programs, arrays

    @classmethod
    def of(cls, name: str, traces: Sequence[Trace]) -> "Traced":
        """Join traces of one function; an array that several use is one leaf."""
        places: dict[int, int] = {}
        arrays, programs = [], []
        for one in traces:
            for array in one.arrays:
                if id(array) not in places:
                    places[id(array)] = len(arrays)
                    arrays.append(array)
            programs.append((one.code, tuple(places[id(a)] for a in one.arrays)))
        return cls(name, tuple(programs), arrays)

    @property
    def codes(self) -> list[Code]:
        """The code for each of the types."""
        return [code for code, _ in self._programs]

    def __call__(self, *inputs: Any) -> Any:
        """Call the function."""
        types = tuple(map(type_of, inputs))
        for code, places in self._programs:
            if code.inputs == types:
                return code([self._arrays[place] for place in places], inputs)
        raise Untraced(self._name, types)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arrays, and all else."""
        return tuple(self._arrays), (self._name, self._programs)

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], arrays: Sequence[Any]) -> "Traced":
        """Undo `tree_flatten`."""
        name, programs = static
        return cls(name, programs, arrays)


class Function:
    """A caller's function during one call of ours: never older, traced once a type."""

    def __init__(self, fn: Callable[..., Any], name: str = "logits_fn"):
        self.fn: Callable[..., Any] = fn
        self.name: str = name
        self._traces: dict[tuple[Any, ...], Trace] = {}

    def at(self, *inputs: Any) -> Trace:
        """Trace the function for inputs like these."""
        return self.at_types(tuple(map(type_of, inputs)))

    def at_types(self, types: tuple[Any, ...]) -> Trace:
        """Trace the function for inputs of these types."""
        if types not in self._traces:
            self._traces[types] = trace(self.fn, types, name=self.name)
        return self._traces[types]

    def fewer(self, array: Any, count: int) -> Traced:
        """Return the function for the first rows of its input, to check it.

        It is traced once for all functions that do the same with all rows: a function
        that has changed for this number of rows alone is not noticed.
        """
        whole = self.at(array)
        few = jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype)
        if len(array) <= count:
            return Traced.of(self.name, [whole])
        if whole.code not in _of_fewer:
            made = self.at(few)
            places = {id(a): place for place, a in enumerate(whole.arrays)}
            if not all(id(a) in places for a in made.arrays):
                return Traced.of(self.name, [made])
            _of_fewer[whole.code] = made.code, [places[id(a)] for a in made.arrays]
        code, found = _of_fewer[whole.code]
        return Traced(self.name, ((code, tuple(found)),), whole.arrays)

    def traced(self, types: Sequence[tuple[Any, ...]]) -> Traced:
        """Return the function for some types of inputs."""
        return Traced.of(self.name, list(map(self.at_types, types)))

    def like(self, *inputs: Any) -> Traced:
        """Return the function for inputs like these, its arrays on a device."""
        return placed(self.traced([tuple(map(type_of, inputs))]), inputs)


# The code of a function for few rows, and its arrays among those for all rows.
_of_fewer: weakref.WeakKeyDictionary[Code, Any] = weakref.WeakKeyDictionary()


class _Recent(OrderedDict):
    """A dictionary of the entries used last."""

    def __init__(self, most: int):
        super().__init__()
        self._most, self._lock = most, threading.RLock()

    def get_or_make(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return an entry, or make it."""
        with self._lock:
            if key not in self:
                self[key] = make()
                while len(self) > self._most:
                    self.popitem(last=False)
            self.move_to_end(key)
            return self[key]


_programs, _executables = _Recent(MOST_PROGRAMS), _Recent(MOST_PROGRAMS)
_types_used = _Recent(1024)
_alike: defaultdict[int, set[int]] = defaultdict(set)


def run(fn: Callable[..., Any], *arguments: Any, **static: Any) -> Any:
    """Run `fn(*arguments, **static)`, compiled.

    Args:
      fn: a pure function that is not made anew for each call.
      *arguments: pytrees of arrays, `Traced` functions among them.
      **static: settings of the program.
    """
    return _program(fn, arguments, static)(*arguments)


def call(
    fn: Callable[..., Any],
    functions: Mapping[str, Function],
    *arguments: Any,
    **static: Any,
) -> Any:
    """Run `fn(traced functions by name, *arguments, **static)`, compiled.

    A function that computes the same as one before, with other arrays, compiles
    nothing. All functions are traced for each type of inputs that `fn` gives them.
    """
    leaves = jax.tree.leaves(arguments)
    known = (fn, tuple(functions), _items(static), tuple(map(type_of, leaves)))
    used = _types_used.get_or_make(known, lambda: {name: [] for name in functions})
    while True:
        traced = {n: functions[n].traced(types) for n, types in used.items()}
        try:
            given = placed(traced, leaves), *arguments
            return _program(fn, given, static, watched=True)(*given)
        except Untraced as missing:
            used[missing.name].append(missing.types)


def fold_in(key: Array, number: int) -> Array:
    """Fold a number into a key, also where implicit copies are refused."""
    return run(jax.random.fold_in, key, on_device(np.uint32(number)))


def executable(fn: Callable[..., Any], *arguments: Any, **static: Any) -> Callable:
    """Return `fn` of these arguments compiled ahead of a first call."""
    leaves = jax.tree.leaves(arguments)
    layout = tuple((jax.typeof(x), getattr(x, "sharding", None)) for x in leaves)
    program = _program(fn, arguments, static)
    key = program, layout
    return _executables.get_or_make(key, lambda: program.lower(*arguments).compile())


def _program(
    fn: Callable, arguments: Any, static: Mapping[str, Any], *, watched: bool = False
) -> Any:
    """Return a compiled function of one tree structure, which keeps its types apart."""
    options = compiler_options()
    key = fn, _items(static), jax.tree.structure(arguments), options is None

    def _make() -> Any:
        if watched:
            _watch(key, arguments)
        # A function of its own: when it is dropped, JAX drops its programs too.
        bound = functools.partial(fn, **static)
        return jax.jit(bound, inline=True, compiler_options=options)

    return _programs.get_or_make(key, _make)


def _items(static: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(static.items(), key=lambda item: item[0]))


def on_device(array: Any) -> Array:
    """Copy an array of the host to a device, also where implicit copies are refused.

    The caller may change its array while the copy is in use.
    """
    if isinstance(array, jax.Array):
        return array
    return jax.device_put(np.asarray(array), may_alias=False)


def placed(functions: Any, inputs: Sequence[Any]) -> Any:
    """Put the arrays of traced functions where their inputs are.

    Arrays of the host are copied to a device. An array of one device follows inputs on
    others, to all of them.
    """
    sharding = _sharding(inputs)
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec())

    def _place(array: Any) -> Array:
        array = on_device(array)
        if sharding is None or not is_concrete(array) or not array.committed:
            return array
        devices = array.sharding.device_set
        alone = len(devices) == 1 and devices != sharding.device_set
        return jax.device_put(array, sharding) if alone else array

    return jax.tree.map(_place, functions)


def _sharding(arrays: Sequence[Any]) -> Sharding | None:
    """Return the sharding of the first array that has a fixed place."""
    fixed = (
        a.sharding
        for a in arrays
        if isinstance(a, jax.Array) and is_concrete(a) and a.committed
    )
    return next(fixed, None)


def _watch(key: tuple[Any, ...], arguments: Any) -> None:
    """Warn when programs that differ in constants alone are compiled repeatedly."""
    leaves = jax.tree.leaves(arguments, is_leaf=lambda x: isinstance(x, Traced))
    codes = [code for leaf in leaves if isinstance(leaf, Traced) for code in leaf.codes]
    exact = tuple(code.structure for code in codes)
    alike = _alike[hash((*key[:2], loosen(exact)))]
    if hash(exact) in alike:  # compiled before, and dropped
        return
    alike.add(hash(exact))
    if len(alike) == 3:
        warnings.warn(
            "A third program is compiled for functions that differ only in Python "
            "numbers, NumPy constants or host functions, such as a temperature or the "
            "function of a `jax.pure_callback`, or in the arrays of a derivative rule. "
            "Make numbers JAX arrays (`jnp.float32(2)`), and each host function once, "
            "outside of the model; pass arrays to a `jax.custom_vjp` as arguments.",
            UserWarning,
            stacklevel=5,
        )
