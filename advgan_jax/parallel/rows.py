"""Rows of the training data: those of a step, and those that a process reads."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import struct
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from advgan_jax.parallel.placing import AXIS, all_devices, choose_mode, num_shards
from advgan_jax.types import Array, Batch

# Reads rows `[n]`: their images `[n, H, W, C]` and labels `[n, ...]`, on the host.
ReadFn = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class BatchRows(struct.PyTreeNode):
    """Rows of the batches of one call: `count` rows of `order` from `first` on.

    `order`, int32 `[S, B]`, has the rows of S batches. With `per_device`, each device
    has only its own data; `order` is `[S, B / devices]` and counts the device's rows.
    """

    order: Array | np.ndarray
    first: Any
    count: int = struct.field(pytree_node=False)
    per_device: bool = struct.field(pytree_node=False, default=False)

    def of_shard(self, axis_name: str | None, shards: int) -> Array:
        """Return this device's rows of the call, int32 `[count, B / shards]`."""
        batches = lax.dynamic_slice_in_dim(self.order, self.first, self.count)
        if self.per_device or axis_name is None:
            return batches
        size = batches.shape[1] // shards
        start = lax.axis_index(axis_name) * size
        return lax.dynamic_slice_in_dim(batches, start, size, axis=1)


def as_batch_rows(rows: Any) -> BatchRows:
    """Convert an int array `[k, B]`, the rows of k batches, to `BatchRows`."""
    if isinstance(rows, BatchRows):
        return rows
    return BatchRows(rows, np.int32(0), rows.shape[0])


def check_divides(batch_size: int, shards: int, *, name: str = "batch_size") -> None:
    """Reject batches that cannot be sharded evenly over the devices."""
    if batch_size % shards:
        raise ValueError(
            f"`{name}` must be a multiple of the {shards} devices, got {batch_size}; "
            "change it or use parallel='jit'."
        )


def read_replicated(read: ReadFn, num_rows: int) -> Batch:
    """Read rows 0 to `num_rows` - 1 onto all devices; each process reads its share.

    An all-gather copies what one host has read to the others, pixels as stored.
    """
    mesh = all_devices()
    part = -(-num_rows // mesh.size)
    starts = [part * place for place in _own_places(mesh)]
    rows = np.concatenate([np.arange(start, start + part) for start in starts])
    # The last device's part repeats the last row; the gather drops the repetitions.
    columns = read(np.minimum(rows, num_rows - 1))
    sharded, replicated = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())

    def _place(column: np.ndarray) -> Array:
        parts = dict(zip(starts, np.split(column, len(starts)), strict=True))
        shape = (part * mesh.size, *column.shape[1:])

        def _part(index: Any) -> np.ndarray:
            return parts[index[0].start or 0]

        return jax.make_array_from_callback(shape, sharded, _part)

    gather = jax.jit(
        lambda batch: jax.tree.map(lambda a: a[:num_rows], batch),
        out_shardings=replicated,
    )
    return gather(Batch(*map(_place, columns)))


def shard(read: ReadFn, indices: np.ndarray, mode: str) -> tuple[Batch, BatchRows]:
    """Give each device its own rows of some batches, read by its own process.

    `read` is called once, for the rows of this process's devices. `indices`, int
    `[k, B]`, are the rows of k batches, the same in all processes. Returns data and
    rows for compiled steps; with several shards, the data have a device axis. Raises
    `ValueError` if the number of devices does not divide B.
    """
    mode, shards = choose_mode(mode), num_shards(mode)
    count, size = indices.shape
    check_divides(size, shards)
    own = size // shards
    rows = _per_device_rows(count, own)
    if mode == "jit":
        return Batch(*map(jax.device_put, read(indices.ravel()))), rows
    mesh = all_devices()
    places = _own_places(mesh)
    of_devices = indices.reshape(count, shards, own).swapaxes(0, 1)[places]
    columns = read(of_devices.ravel())
    # `pmap` takes from each process only data on its own devices.
    sharding = NamedSharding(mesh.local_mesh if mode == "pmap" else mesh, P(AXIS))

    def _place(column: np.ndarray) -> Array:
        column = column.reshape(len(places), count * own, *column.shape[1:])
        return jax.make_array_from_process_local_data(sharding, column)

    return Batch(*map(_place, columns)), rows


@functools.lru_cache
def _per_device_rows(count: int, own: int) -> BatchRows:
    """Return a device's own rows in order; one object, so that it is copied once."""
    order = np.arange(count * own, dtype=np.int32).reshape(count, own)
    return BatchRows(order, np.int32(0), count, per_device=True)


def _own_places(mesh: Mesh) -> list[int]:
    """Return the positions of this process's devices among all devices."""
    this = jax.process_index()
    return [i for i, d in enumerate(mesh.devices.flat) if d.process_index == this]
