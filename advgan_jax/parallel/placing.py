"""Modes of steps, their collectives, and arrays on one or several devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

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
    # On a CPU a call costs little next to a step, and a loop inside it would slow down
    # target models that are not `loops.loop_ready`. Elsewhere each call costs a launch.
    return 1 if jax.default_backend() == "cpu" else 50


def all_devices() -> Mesh:
    """Return a one-dimensional mesh of all devices of all processes."""
    # Explicit axes, the default of `jax.make_mesh`, reject mixtures of shardings.
    return Mesh(np.array(jax.devices()), (AXIS,), axis_types=(AxisType.Auto,))


def replicated_sharding() -> jax.sharding.Sharding:
    """Return the sharding of an array that every process holds as a whole."""
    if jax.process_count() == 1:
        return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return NamedSharding(all_devices(), P())


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is an array of typed PRNG keys."""
    array = isinstance(leaf, jax.Array)
    return array and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _place(leaf: Any, sharding: NamedSharding) -> Array:
    """Put a leaf on the devices of a sharding, without a copy where it is there."""
    if getattr(leaf, "sharding", None) == sharding:
        return leaf
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    # Replicated on this process's devices already.
    if (
        isinstance(leaf, jax.Array)
        and not is_key(leaf)
        and leaf.sharding.is_fully_replicated
        and sharding.is_fully_replicated
        and leaf.sharding.addressable_devices == sharding.addressable_devices
    ):
        parts = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, parts)
    leaf = local(leaf)
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if is_key(leaf):
        data = _place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    # Through the host: a process cannot write to the devices of others.
    array = np.asarray(jnp.asarray(leaf))
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])


def replicate(tree: Any, mesh: Mesh | None = None) -> Any:
    """Copy arrays to all devices of a mesh (default: all); may share memory.

    Every process gives the same values. With one device, returns the tree unchanged.
    """
    mesh = all_devices() if mesh is None else mesh
    if mesh.size == 1 and jax.process_count() == 1:
        return tree
    sharding = NamedSharding(mesh, P())
    return jax.tree.map(lambda leaf: _place(leaf, sharding), tree)


def local(tree: Any) -> Any:
    """Return this process's copy of replicated arrays, each on one device."""

    def _one(leaf: Any) -> Any:
        several = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
        return leaf.addressable_data(0) if several else leaf

    return jax.tree.map(_one, tree)


def spread_size(count: int) -> int:
    """Return how many rows `spread` makes of `count`."""
    return -(-count // jax.device_count()) * jax.device_count()


def spread(tree: Any) -> Any:
    """Shard the rows of host arrays `[B, ...]` over all devices.

    Repeats the last row up to the next multiple of the number of devices.
    """
    count = jax.device_count()
    if count == 1:
        return jax.device_put(tree)
    sharding = NamedSharding(all_devices(), P(AXIS))

    def _one(array: np.ndarray) -> Array:
        array = np.asarray(array)
        rows = np.arange(spread_size(len(array)))
        return _place(array[np.minimum(rows, len(array) - 1)], sharding)

    return jax.tree.map(_one, tree)


def fetch(array: Array, count: int) -> np.ndarray:
    """Return the first `count` rows of results of `spread` rows to every process."""
    if not getattr(array, "is_fully_addressable", True):
        array = multihost_utils.process_allgather(array, tiled=True)
    return jax.device_get(array)[:count]
