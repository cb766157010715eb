"""Options of XLA with which programs compile in less time on CPU."""

import threading

import jax
from jax.extend.core import get_opaque_trace_state

_outside = []
# In a thread of its own, because a caller's `jit` may import this module.
_thread = threading.Thread(target=lambda: _outside.append(get_opaque_trace_state()))
_thread.start()
_thread.join()


def compiler_options() -> dict[str, bool] | None:
    """Return the `compiler_options` of a program that runs few times on CPU.

    XLA's newer emitter of fused loops takes up to twice as long to compile, and its
    programs are at most 5 % faster (seven attacks on MNIST's model C). Within a
    caller's `jit` or `grad`, and for versions of JAX that this was not measured with,
    the answer is None: no options.
    """
    nested = get_opaque_trace_state() != _outside[0]
    if nested or jax.__version_info__ >= (0, 11) or jax.default_backend() != "cpu":
        return None
    return {"xla_cpu_use_fusion_emitters": False}
