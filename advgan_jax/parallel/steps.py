"""Training steps, compiled for one device or for all of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from advgan_jax.data import to_float
from advgan_jax.parallel.modes import AXIS, choose_mode
from advgan_jax.parallel.placing import all_devices, replicate
from advgan_jax.types import Array, Batch


def compile_steps(step: Callable, *, mode: str = "auto") -> Callable:
    """Compiles a training step to run on batches gathered from data on the devices.

    Args:
      step: `(state, batch, *frozen, axis_name=None) -> (state, metrics)`, pure.
      mode: see `choose_mode`.

    Returns:
      `run(state, data, indices, *frozen) -> (state, metrics)` with `data` a `Batch`
      of all N training images, `indices` int `[k, B]` the rows of k batches, the same
      in all processes, and each metric of shape `[k]`. The old state is donated: do not
      use it again.

    Raises:
      ValueError: for an unknown mode, or (when run) a batch size that the number of
        devices does not divide.
    """
    mode = choose_mode(mode)
    if mode == "jit":
        return jax.jit(partial(_run_steps, step), donate_argnums=0)
    return _Sharded(step, mode)


class _Sharded:
    """Compiled steps that cut each batch over all devices."""

    def __init__(self, step: Callable, mode: str):
        mesh = all_devices()
        own = partial(step, axis_name=AXIS)

        def run(state, data, indices, frozen):
            return _run_steps(own, state, data, indices, *frozen)

        self._mode, self._shards = mode, mesh.size
        # What a process gives to `pmap`, and gets, lies on its own devices alone.
        self._mesh = mesh.local_mesh if mode == "pmap" else mesh
        self._run = _mapped(run) if mode == "pmap" else _sharded(run, mesh)
        self._given, self._placed = (), ()

    def __call__(self, state: Any, data: Batch, indices: Array, *frozen: Any):
        """Makes the steps."""
        rows = self._cut(np.asarray(indices))
        # Copied once, and not in each call: the data may be all the memory there is.
        given = (data, *frozen)
        if len(given) != len(self._given) or any(
            a is not b for a, b in zip(given, self._given, strict=True)
        ):
            self._given, self._placed = given, replicate(given, self._mesh)
        data, *frozen = self._placed
        return self._run(replicate(state, self._mesh), data, rows, tuple(frozen))

    def _cut(self, indices: np.ndarray) -> Any:
        calls, size = indices.shape
        if size % self._shards:
            raise ValueError(
                f"The batch size must be a multiple of the {self._shards} devices, got "
                f"{size}; change `batch_size` or use parallel='jit'."
            )
        if self._mode == "pmap":
            ours = [d.process_index == jax.process_index() for d in jax.devices()]
            return indices.reshape(calls, self._shards, -1)[:, ours]
        sharding = jax.sharding.NamedSharding(self._mesh, P(None, AXIS))
        return jax.make_array_from_callback(
            indices.shape, sharding, lambda i: indices[i]
        )


def _mapped(run: Callable) -> Callable:
    return jax.pmap(
        run, AXIS, in_axes=(None, None, 1, None), out_axes=None, donate_argnums=0
    )


def _sharded(run: Callable, mesh: jax.sharding.Mesh) -> Callable:
    # Unchecked, as in `pmap`: the check would ask of each loop in an attack that what
    # it starts from varies over the devices. Steps average losses and gradients both,
    # which is right with and without.
    specs = (P(), P(), P(None, AXIS), P())
    sharded = jax.shard_map(
        run, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False
    )
    return jax.jit(sharded, donate_argnums=0)


def _run_steps(step, state, data: Batch, indices: Array, *frozen):
    """Gathers each batch on the device and makes its step."""

    def one(state, rows):
        batch = Batch(to_float(data.images[rows]), data.labels[rows])
        return step(state, batch, *frozen)

    # A scan of one step is still a loop to XLA, and slow on CPU (see `layers`).
    if indices.shape[0] == 1:
        state, metrics = one(state, indices[0])
        return state, jax.tree.map(lambda m: jnp.asarray(m)[None], metrics)
    return lax.scan(one, state, indices)
