"""Modes in which steps run, and the collectives inside a step."""

from typing import Any

import jax
from jax import lax

from advgan_jax.checks import unknown_name
from advgan_jax.types import Array

AXIS = "devices"
MODES = ("auto", "jit", "pmap", "shard_map")


def mean_over(tree: Any, axis_name: str | None) -> Any:
    """Average a pytree over the devices; the identity without an axis."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def fold_in_shard(key: Array, axis_name: str | None) -> Array:
    """Derive a key for each shard; the same key without an axis."""
    if axis_name is None:
        return key
    return jax.random.fold_in(key, lax.axis_index(axis_name))


def choose_mode(mode: str) -> str:
    """Resolve a mode to `jit`, `pmap` or `shard_map`.

    `jit` uses one device, `pmap` and `shard_map` all devices of all processes. `auto`
    is `pmap` if there are several devices, else `jit`.

    Raises:
      ValueError: if the mode is unknown, or is `jit` with several processes.
    """
    if mode not in MODES:
        raise unknown_name("parallel mode", mode, MODES)
    if mode == "auto":
        return "pmap" if jax.device_count() > 1 else "jit"
    if mode == "jit" and jax.process_count() > 1:
        raise ValueError(
            "parallel='jit' uses one device, expected one process, got "
            f"{jax.process_count()}; use 'pmap' or 'shard_map'."
        )
    return mode


def num_shards(mode: str) -> int:
    """Return the number of shards of each batch in `mode`."""
    return 1 if choose_mode(mode) == "jit" else jax.device_count()


def axis_name(mode: str) -> str | None:
    """Return the axis that steps get in `mode`: `AXIS`, or None on one device."""
    return None if choose_mode(mode) == "jit" else AXIS


def default_steps_per_call() -> int:
    """Return the number of steps in one compiled call."""
    # On a CPU a call is cheap beside a step, and a loop inside it would slow down
    # target models that are not `loops.loop_ready`. Elsewhere each call costs a launch.
    return 1 if jax.default_backend() == "cpu" else 50
