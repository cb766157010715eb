"""Devices: the only place that knows how many there are.

A training step is written once, for one shard of a batch:

    step(state, batch, *frozen, axis_name=None) -> (state, metrics)

With `axis_name` set it averages losses, gradients and metrics over that axis
(`mean_over`) and folds the shard's index into its key (`fold_in_shard`). Here it is
compiled for one device (`jit`) or several (`pmap`, with a replicated state that keeps
no device axis, so checkpoints do not know the device count).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from advgan_jax.checks import unknown_name
from advgan_jax.data import to_float
from advgan_jax.types import Array, Batch

AXIS = "devices"
MODES = ("auto", "jit", "pmap")


def mean_over(tree: Any, axis_name: str | None) -> Any:
    """Averages a pytree over the devices; the identity without an axis."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def fold_in_shard(key: Array, axis_name: str | None) -> Array:
    """A key of its own for each shard; the same key without an axis."""
    if axis_name is None:
        return key
    return jax.random.fold_in(key, lax.axis_index(axis_name))


def choose_mode(mode: str) -> str:
    """Resolves a mode.

    Args:
      mode: `jit`, `pmap`, or `auto`: `pmap` where there are several devices.

    Returns:
      `jit` or `pmap`.

    Raises:
      ValueError: for an unknown mode; lists the known ones.
    """
    if mode not in MODES:
        raise unknown_name("parallel mode", mode, MODES)
    if mode == "auto":
        return "pmap" if jax.local_device_count() > 1 else "jit"
    return mode


def num_shards(mode: str) -> int:
    """Into how many shards `mode` cuts each batch."""
    return jax.local_device_count() if choose_mode(mode) == "pmap" else 1


def default_steps_per_call() -> int:
    """How many steps one compiled call makes.

    On CPU a call costs nothing beside a step, and a loop inside it would slow down
    target models that are not `loops.loop_ready`; elsewhere each call costs a launch.
    """
    return 1 if jax.default_backend() == "cpu" else 50


def compile_steps(step: Callable, *, mode: str = "auto") -> Callable:
    """Compiles a training step to run on batches gathered from data on the devices.

    Args:
      step: `(state, batch, *frozen, axis_name=None) -> (state, metrics)`, pure.
      mode: `auto`, `jit` or `pmap`.

    Returns:
      `run(state, data, indices, *frozen) -> (state, metrics)` with `data` a `Batch`
      of all N training images, `indices` int `[k, B]` the rows of k batches, and each
      metric of shape `[k]`. The old state is donated: do not use it again.

    Raises:
      ValueError: for an unknown mode, or (when run) a batch size that the number of
        devices does not divide.
    """
    if choose_mode(mode) == "jit":
        return jax.jit(partial(_run_steps, step), donate_argnums=0)
    return _pmapped(step)


def _pmapped(step: Callable) -> Callable:
    run = partial(_run_steps, partial(step, axis_name=AXIS))
    compiled = {}

    def sharded(state, data, indices, *frozen):
        shards, (calls, size) = jax.local_device_count(), indices.shape
        if size % shards:
            raise ValueError(
                f"The batch size must be a multiple of the {shards} devices, got "
                f"{size}; change `batch_size` or use parallel='jit'."
            )
        if len(frozen) not in compiled:
            axes = (None, None, 1, *(None,) * len(frozen))
            compiled[len(frozen)] = jax.pmap(
                run, AXIS, in_axes=axes, out_axes=None, donate_argnums=0
            )
        indices = np.asarray(indices).reshape(calls, shards, size // shards)
        return compiled[len(frozen)](state, data, indices, *frozen)

    return sharded


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
