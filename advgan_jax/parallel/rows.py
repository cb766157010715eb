"""Rows of the training data: which a step takes, and which a process reads."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import struct
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from advgan_jax.parallel.modes import AXIS, choose_mode, num_shards
from advgan_jax.parallel.placing import all_devices
from advgan_jax.types import Array, Batch

# BatchRows `[n]` to their images `[n, H, W, C]` and labels `[n, ...]`, on the host.
Read = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class BatchRows(struct.PyTreeNode):
    """The batches of one call, cut out of an epoch's order on the devices.

    Attributes:
      order: int32 `[S, B]`, for each of S batches the rows of the data it has.
      first: the call's first batch, a number from 0 to S - `count`.
      count: how many batches the call takes.
      per_device: whether each device has rows of its own alone. Then `order` is
        `[S, B / devices]`, the same on each of them, and counts a device's own rows.
    """

    order: Array
    first: Any
    count: int = struct.field(pytree_node=False)
    per_device: bool = struct.field(pytree_node=False, default=False)

    def of_shard(self, axis_name: str | None, shards: int) -> Array:
        """The call's rows for this device, int32 `[count, B / shards]`."""
        batches = lax.dynamic_slice_in_dim(self.order, self.first, self.count)
        if self.per_device or axis_name is None:
            return batches
        size = batches.shape[1] // shards
        start = lax.axis_index(axis_name) * size
        return lax.dynamic_slice_in_dim(batches, start, size, axis=1)


def as_batch_rows(rows: Any) -> BatchRows:
    """BatchRows as they are, or all batches of an int array `[k, B]`."""
    return (
        rows
        if isinstance(rows, BatchRows)
        else BatchRows(rows, np.int32(0), rows.shape[0])
    )


def check_divides(batch_size: int, shards: int) -> None:
    """Refuses batches that cannot be cut over the devices."""
    if batch_size % shards:
        raise ValueError(
            f"The batch size must be a multiple of the {shards} devices, got "
            f"{batch_size}; change `batch_size` or use parallel='jit'."
        )


def read_replicated(read: Read, num_rows: int) -> Batch:
    """All rows on all devices of all processes, each of which reads its share.

    What was read on one host gets to the others by an all-gather, pixels as they are
    stored.

    Args:
      read: gives rows; what is asked for here are 1 / P of them.
      num_rows: N.

    Returns:
      A `Batch` of all N rows, in order, the same on each device.
    """
    mesh = all_devices()
    part = -(-num_rows // mesh.size)
    starts = [part * place for place in _own_places(mesh)]
    rows = np.concatenate([np.arange(start, start + part) for start in starts])
    # The last device's part is filled up, and cut off again where all is gathered.
    columns = read(np.minimum(rows, num_rows - 1))
    cut, whole = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())

    def place(column):
        parts = dict(zip(starts, np.split(column, len(starts)), strict=True))
        shape = (part * mesh.size, *column.shape[1:])
        return jax.make_array_from_callback(
            shape, cut, lambda index: parts[index[0].start or 0]
        )

    placed = Batch(*map(place, columns))
    gather = jax.jit(
        lambda batch: jax.tree.map(lambda a: a[:num_rows], batch), out_shardings=whole
    )
    return gather(placed)


def shard(read: Read, indices: np.ndarray, mode: str) -> tuple[Batch, BatchRows]:
    """Gives each device its own rows of some batches, read by its own process.

    Args:
      read: gives rows; asked in one go for those of this process's devices.
      indices: int `[k, B]`, the rows of k batches, the same in all processes.
      mode: see `choose_mode`.

    Returns:
      Data and rows for compiled steps. Where batches are cut, the data has one axis
      more, of the devices.

    Raises:
      ValueError: if the number of devices does not divide B.
    """
    mode, shards = choose_mode(mode), num_shards(mode)
    count, size = indices.shape
    check_divides(size, shards)
    own = size // shards
    rows = _per_device_rows(count, own)
    if mode == "jit":
        return jax.device_put(Batch(*read(indices.ravel()))), rows
    mesh = all_devices()
    places = _own_places(mesh)
    of_devices = indices.reshape(count, shards, own).swapaxes(0, 1)[places]
    columns = read(of_devices.ravel())
    # What a process gives to `pmap` lies on its own devices alone.
    mesh = mesh.local_mesh if mode == "pmap" else mesh
    sharding = NamedSharding(mesh, P(AXIS))

    def place(column):
        column = column.reshape(len(places), count * own, *column.shape[1:])
        return jax.make_array_from_process_local_data(sharding, column)

    return Batch(*map(place, columns)), rows


@functools.lru_cache
def _per_device_rows(count: int, own: int) -> BatchRows:
    """Rows of a device's own data in their order; one object, to be copied once."""
    order = np.arange(count * own, dtype=np.int32).reshape(count, own)
    return BatchRows(order, np.int32(0), count, per_device=True)


def _own_places(mesh: jax.sharding.Mesh) -> list[int]:
    """Where this process's devices stand among all."""
    this = jax.process_index()
    return [i for i, d in enumerate(mesh.devices.flat) if d.process_index == this]
