"""Workarounds for what is slow on a CPU; docs/cpu.md says why and until when.

For your own models and loops:
  * `Conv`, `Dense`, `max_pool`: Flax layers whose gradients are fast in compiled loops;
  * `loop_ready`: any model, with such gradients; all attacks call it themselves.

For your own process, before its first computation, in this order:
  * `split_cpu`: several devices of one thread each;
  * `compute_in_caller`, `keep_memory`: memory of a step reused by the next.

On a GPU or TPU each of them does nothing, or is JAX's own function.
"""

from advgan_jax.cpu.cores import num_cores
from advgan_jax.cpu.layers import Conv, Dense, max_pool
from advgan_jax.cpu.loops import loop_ready
from advgan_jax.cpu.process import compute_in_caller, keep_memory, split_cpu

__all__ = [
    "Conv",
    "Dense",
    "compute_in_caller",
    "keep_memory",
    "loop_ready",
    "max_pool",
    "num_cores",
    "split_cpu",
]
