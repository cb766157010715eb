"""Functions that stay the same in many calls, such as a training's target model."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from advgan_jax.tracing.programs import Function, Untraced, on_device

_ARRAYS = jax.Array | np.ndarray


def bind(fn: Callable[..., Any], functions: Any) -> Callable[..., Any]:
    """Return `fn(*arguments, *functions)` as a function of its first arguments.

    Args:
      fn: compiled; its last arguments are pytrees of functions.
      functions: functions, alone or in tuples. `jax.tree_util.Partial`s are passed as
        they are, if they contain arrays alone. Any other is traced at its first call,
        for all calls.
    """
    leaves, structure = jax.tree.flatten(tuple(functions), is_leaf=callable)
    types: dict[str, list] = {}

    def _named(number: int, leaf: Any) -> Any:
        arrays = jax.tree.leaves(leaf)
        known = isinstance(leaf, Partial) and all(
            isinstance(a, _ARRAYS) for a in arrays
        )
        if known or not callable(leaf):
            return leaf
        name = f"frozen model {number + 1}"
        types[name] = []
        return Function(leaf, name)

    named = [_named(number, leaf) for number, leaf in enumerate(leaves)]

    def _functions() -> tuple[Any, ...]:
        made = [
            jax.tree.map(on_device, one.traced(types[one.name]))
            if isinstance(one, Function)
            else one
            for one in named
        ]
        return jax.tree.unflatten(structure, made)

    passed = _functions()

    def _bound(*arguments: Any) -> Any:
        nonlocal passed
        while True:
            try:
                return fn(*arguments, *passed)
            except Untraced as missing:
                types[missing.name].append(missing.types)
                passed = _functions()

    return _bound
