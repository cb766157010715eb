"""Devices and processes: the only package that knows their number.

A training step is written once, for one shard of a batch:

    step(state, batch, *frozen, axis_name=None) -> (state, metrics)

With `axis_name`, the step averages losses, gradients and metrics over that axis
(`mean_over`) and folds the shard's index into its key (`fold_in_shard`).
`compile_steps` compiles it for one device (`jit`) or for all devices of all processes
(`pmap`, `shard_map`). A state has no device axis, so checkpoints do not depend on the
number of devices.

Evaluation is written for whole batches. `spread` shards their rows over all devices,
and the compiler splits the work. So an attack draws the same numbers on any devices.

Several processes run the same program in step. `processes` coordinates what one of them
does alone (write a file) and what all decide alike (whether to stop). `locks` allows
one run at a time to write into a folder.
"""

from advgan_jax.parallel.locks import LOCK, locked
from advgan_jax.parallel.placing import (
    AXIS,
    MODES,
    axis_name,
    choose_mode,
    default_steps_per_call,
    fetch,
    fold_in_shard,
    local,
    mean_over,
    num_shards,
    replicate,
    replicated_sharding,
    spread,
    spread_size,
)
from advgan_jax.parallel.processes import (
    HEARTBEAT,
    agreed,
    agreed_stop,
    first_alone,
    first_before_others,
    is_first,
    num_processes,
    start,
)
from advgan_jax.parallel.rows import BatchRows, check_divides, read_replicated, shard
from advgan_jax.parallel.steps import compile_steps

__all__ = [
    "AXIS",
    "HEARTBEAT",
    "LOCK",
    "MODES",
    "BatchRows",
    "agreed",
    "agreed_stop",
    "axis_name",
    "check_divides",
    "choose_mode",
    "compile_steps",
    "default_steps_per_call",
    "fetch",
    "first_alone",
    "first_before_others",
    "fold_in_shard",
    "is_first",
    "local",
    "locked",
    "mean_over",
    "num_processes",
    "num_shards",
    "read_replicated",
    "replicate",
    "replicated_sharding",
    "shard",
    "spread",
    "spread_size",
    "start",
]
