"""Workarounds for what is slow on a CPU; docs/cpu.md says why and until when.

For your own models and loops:
  * `Conv`, `Dense`, `max_pool`: Flax layers whose gradients are fast in compiled loops;
  * `loop_ready`: any model, with such gradients; all attacks call it themselves.

For your own process, before its first computation, in this order:
  * `split_cpu`: several devices of one thread each;
  * `compute_in_caller`, `keep_memory`: memory of a step reused by the next;
  * `set_compilation_cache`: programs kept for later processes, on every platform.

On a GPU or TPU all others do nothing, or are JAX's own functions.
"""

from advgan_jax.cpu.cores import num_cores
from advgan_jax.cpu.layers import Conv, Dense, max_pool
from advgan_jax.cpu.loops import loop_ready
from advgan_jax.cpu.process import (
    compute_in_caller,
    keep_memory,
    set_compilation_cache,
    split_cpu,
)

__all__ = [
    "Conv",
    "Dense",
    "compute_in_caller",
    "keep_memory",
    "loop_ready",
    "max_pool",
    "num_cores",
    "set_compilation_cache",
    "split_cpu",
]
