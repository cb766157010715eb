"""The bound of an attack, as far as it can be known from outside."""

import functools
import inspect
from typing import Any, NamedTuple

from advgan_jax.types import Attack


class Bound(NamedTuple):
    """The radius of the ball that an attack stays in, None if unknown; and its norm."""

    epsilon: Any
    norm: str


def takes_epsilon(attack: Attack) -> bool:
    """Return whether an attack can be called with another `epsilon`."""
    return "epsilon" in _arguments_of(attack)


def _arguments_of(attack: Attack) -> dict[str, Any]:
    """Return the arguments of an attack with the bound or default value of each."""
    arguments: dict[str, Any] = {}
    while isinstance(attack, functools.partial):
        arguments = {**attack.keywords, **arguments}
        attack = attack.func
    known = getattr(attack, "arguments", None)  # set by `make_attack`
    if known is None:
        parameters = inspect.signature(attack).parameters.values()
        known = {p.name: p.default for p in parameters}
    return {**known, **arguments}


def bound_of(attack: Attack) -> Bound:
    """Return the bound of an attack from its bound arguments and its defaults."""
    arguments = _arguments_of(attack)
    epsilon, norm = arguments.get("epsilon"), arguments.get("norm", "linf")
    missing = epsilon is inspect.Parameter.empty
    return Bound(
        None if missing else epsilon, norm if isinstance(norm, str) else "linf"
    )
