"""Training steps, compiled for one device or for all of them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from advgan_jax.data import to_float
from advgan_jax.parallel.placing import (
    AXIS,
    all_devices,
    choose_mode,
    is_key,
    replicate,
)
from advgan_jax.parallel.rows import BatchRows, as_batch_rows, check_divides
from advgan_jax.types import Array, Batch

# `(state, data, rows, *frozen) -> (state, metrics)`
Run = Callable[..., tuple[Any, Mapping[str, Array]]]


def compile_steps(step: Callable[..., Any], *, mode: str = "auto") -> Run:
    """Compile a training step to run on batches gathered from data on the devices.

    Args:
      step: `(state, batch, *frozen, axis_name=None) -> (state, metrics)`, pure.
      mode: see `choose_mode`.

    Returns:
      `run(state, data, rows, *frozen) -> (state, metrics)`. `data` is a `Batch` of all
      N training images. `rows` are k batches of an epoch's order (`BatchRows`, or int
      `[k, B]`), the same in all processes. Or both come from `shard`. Each metric has
      shape `[k]`. The old state is donated: do not use it again.

    Raises:
      ValueError: if the mode is unknown or, in a call of `run`, the number of devices
        does not divide the batch size.
    """
    mode = choose_mode(mode)
    if mode == "jit":
        run = partial(_run_steps, step, axis_name=None, shards=1)
        return jax.jit(run, donate_argnums=0)
    return _Sharded(step, mode)


class _Sharded:
    """Compiled steps that shard each batch over all devices."""

    def __init__(self, step: Callable[..., Any], mode: str) -> None:
        mesh = all_devices()
        own = partial(step, axis_name=AXIS)

        def run(state: Any, data: Batch, rows: BatchRows, frozen: tuple) -> Any:
            """Make the steps of one shard."""
            # `shard_map` keeps the device axis of a shard, with length 1.
            if rows.per_device and mode == "shard_map":
                data = jax.tree.map(lambda a: a[0], data)
            return _run_steps(
                own, state, data, rows, *frozen, axis_name=AXIS, shards=mesh.size
            )

        self._shards = mesh.size
        # `pmap` takes from each process, and returns, data on its own devices.
        self._mesh = mesh.local_mesh if mode == "pmap" else mesh
        compile_for = _mapped if mode == "pmap" else _sharded
        self._run = {
            per_device: compile_for(run, mesh=self._mesh, per_device=per_device)
            for per_device in (False, True)
        }
        self._data, self._order, self._frozen = (_Copies(self._mesh) for _ in range(3))

    def __call__(
        self, state: Any, data: Batch, rows: BatchRows | Array, *frozen: Any
    ) -> tuple[Any, Mapping[str, Array]]:
        if not isinstance(rows, BatchRows):
            # A copy: the caller may overwrite the array before the next call.
            rows = as_batch_rows(np.array(rows))
        if not rows.per_device:
            check_divides(rows.order.shape[1], self._shards)
            (data,) = self._data(data)
        (order,) = self._order(rows.order)
        rows = rows.replace(order=order)
        state, frozen = replicate(state, self._mesh), self._frozen(*frozen)
        return self._run[rows.per_device](state, data, rows, frozen)


class _Copies:
    """Replicated arguments, copied again only when the objects change."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._given, self._placed = mesh, (), ()

    def __call__(self, *given: Any) -> tuple:
        if list(map(id, given)) != list(map(id, self._given)):
            # Free the old ones first, because the data may fill the memory.
            self._given = self._placed = ()
            self._placed = replicate(given, self._mesh)
            self._given = given
        return self._placed


def _mapped(run: Run, *, mesh: Mesh, per_device: bool) -> Run:
    """Compile by `pmap`."""
    several = jax.process_count() > 1

    def _each(
        place: Array, state: Any, data: Batch, rows: BatchRows, frozen: Any
    ) -> Any:
        del place
        state, metrics = run(_keyed(state), data, rows, _keyed(frozen))
        return _bare(state) if several else state, metrics

    axes = (0, None, 0 if per_device else None, None, None)
    mapped = jax.pmap(_each, AXIS, in_axes=axes, out_axes=None, donate_argnums=1)
    # `pmap` finds its devices by an argument that differs on each.
    places = jax.device_put(np.arange(mesh.size), NamedSharding(mesh, P(AXIS)))

    if not several:
        return partial(mapped, places)

    def _call(state: Any, data: Batch, rows: BatchRows, frozen: Any) -> Any:
        state, metrics = mapped(places, _bare(state), data, rows, _bare(frozen))
        return _keyed(state), metrics

    return _call


class _Key(struct.PyTreeNode):
    """The numbers of a typed key, and its type."""

    data: Array
    impl: Any = struct.field(pytree_node=False)


def _bare(tree: Any) -> Any:
    """Turn typed keys into numbers.

    Otherwise each call of `pmap` with several processes waits on the host for the key
    that the call before computes (JAX 0.10).
    """
    return jax.tree.map(
        lambda a: (
            _Key(jax.random.key_data(a), jax.random.key_impl(a)) if is_key(a) else a
        ),
        tree,
    )


def _keyed(tree: Any) -> Any:
    """Undo `_bare`."""

    def _typed(leaf: Any) -> Any:
        bare = isinstance(leaf, _Key)
        return jax.random.wrap_key_data(leaf.data, impl=leaf.impl) if bare else leaf

    return jax.tree.map(_typed, tree, is_leaf=lambda leaf: isinstance(leaf, _Key))


def _sharded(run: Run, *, mesh: Mesh, per_device: bool) -> Run:
    """Compile by `shard_map`."""
    # Unchecked, as in `pmap`: the check would require that the carry of every loop in
    # an attack varies over the devices. Steps average both losses and gradients, which
    # is correct with and without the check.
    specs = (P(), P(AXIS) if per_device else P(), P(), P())
    sharded = jax.shard_map(
        run, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False
    )
    return jax.jit(sharded, donate_argnums=0)


def _run_steps(
    step: Callable[..., Any],
    state: Any,
    data: Batch,
    rows: BatchRows | Array,
    *frozen: Any,
    axis_name: str | None,
    shards: int,
) -> Any:
    """Gather each batch on the device and make its step."""
    indices = as_batch_rows(rows).of_shard(axis_name, shards)

    def _one(state: Any, rows: Array) -> Any:
        batch = Batch(to_float(data.images[rows]), data.labels[rows])
        return step(state, batch, *frozen)

    # To XLA a scan of one step is still a loop, and slow on CPU (see docs/cpu.md).
    if indices.shape[0] == 1:
        state, metrics = _one(state, indices[0])
        return state, jax.tree.map(lambda m: jnp.asarray(m)[None], metrics)
    return lax.scan(_one, state, indices)
