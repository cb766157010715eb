"""Callers' functions as data: what they compute, and the arrays they use.

A model is any function of arrays. `jit` reads the arrays that a function closes over
once, and compiles a new function anew. Here a function is traced in each call, which
takes milliseconds. The trace shows the arrays that it uses now, which become arguments,
and what it does with them. Functions that do the same share a program.

`call` runs a function of models in this way, `executable` compiles it ahead of time,
and `run` runs a function of arrays and `Traced` models. `bind` traces functions for
many calls. The 64 programs used last are kept.
"""

from advgan_jax.tracing.code import WRAP, Trace, type_of
from advgan_jax.tracing.frozen import bind
from advgan_jax.tracing.programs import (
    Function,
    Traced,
    call,
    executable,
    fold_in,
    on_device,
    placed,
    run,
)

__all__ = [
    "WRAP",
    "Function",
    "Trace",
    "Traced",
    "bind",
    "call",
    "executable",
    "fold_in",
    "on_device",
    "placed",
    "run",
    "type_of",
]
