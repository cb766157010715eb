"""Batches of compiled steps, from data on the devices or read during training.

Both have the same order, so both give the same parameters. The order of an epoch is
drawn on the device and stays there; calls slice their batches out of it.
"""

import collections
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np

from advgan_jax import checks, parallel
from advgan_jax.data import Split, shuffled
from advgan_jax.types import Array, Batch

_PATIENCE = 5  # seconds
Item = TypeVar("Item")
RowsFn = Callable[[Array], Any]  # places `[S, B]` in an epoch -> rows of the data


@dataclasses.dataclass(frozen=True)
class Stream:
    """A split that is too large for the devices, read ahead batch by batch.

    In each process, a thread reads the rows of the process's own devices.

    `mode` is that of the compiled steps. The devices hold the images of `depth` ready
    calls and as many calls in flight. If they do not fit, lower the steps per call.
    """

    split: Split
    mode: str = "auto"
    depth: int = 2

    def __post_init__(self) -> None:
        checks.check_at_least("depth", self.depth, 1)


def iterate_calls(
    data: Batch | Stream,
    plan: Any,
    order_key: Array,
    step: int,
    rows_fn: RowsFn = lambda places: places,
) -> Generator[tuple[Batch, parallel.BatchRows], None, None]:
    """Iterate over the arguments of compiled steps, from `step` to the plan's end.

    Close the generator when done. The arguments are those of `fit.fit`.
    """
    rows = _batch_rows(plan, order_key, step, rows_fn)
    if not isinstance(data, Stream):
        return ((data, each) for each in rows)
    return prefetch(_read(data, rows), data.depth)


def limit_in_flight(run: Callable[..., tuple], ahead: int) -> Callable[..., tuple]:
    """Make `run` wait while `ahead` earlier calls keep their images on the devices."""
    in_flight = collections.deque(maxlen=ahead)

    def _call(*arguments: Any) -> tuple:
        if len(in_flight) == ahead:
            jax.block_until_ready(in_flight[0])
        state, metrics = run(*arguments)
        in_flight.append(metrics)
        return state, metrics

    return _call


def _batch_rows(
    plan: Any, order_key: Array, step: int, rows_fn: RowsFn
) -> Iterator[parallel.BatchRows]:
    """Iterate over the rows of each call."""
    size = plan.steps_per_call
    while step < plan.num_steps:
        epoch, done = divmod(step, plan.steps_per_epoch)
        shape = (plan.steps_per_epoch, plan.batch_size)
        order = rows_fn(_places(order_key, epoch, shape, plan.num_examples))
        for first in range(done, plan.steps_per_epoch, size):
            count = min(size, plan.steps_per_epoch - first)
            yield parallel.BatchRows(order, np.int32(first), count)
        step += plan.steps_per_epoch - done


@partial(jax.jit, static_argnums=(2, 3))
def _places(key: Array, epoch: int, shape: tuple[int, int], num_examples: int) -> Array:
    """Shuffle an epoch into batches `[S, B]`, without an incomplete one."""
    return shuffled(key, epoch, num_examples)[: shape[0] * shape[1]].reshape(shape)


def _read(
    stream: Stream, calls: Iterator[parallel.BatchRows]
) -> Iterator[tuple[Batch, parallel.BatchRows]]:
    """Read the rows of each call."""
    order, rows = None, np.empty(0)
    for call in calls:
        if call.order is not order:
            order, rows = call.order, np.asarray(call.order)
        wanted = rows[call.first : call.first + call.count]
        yield parallel.shard(stream.split.rows, wanted, stream.mode)


def prefetch(items: Iterator[Item], depth: int) -> Generator[Item, None, None]:
    """Make the next `depth` items in a thread while the consumer uses the last one.

    No item may be None. An error in the thread is raised in the place of its item.
    """
    ready, closed = queue.Queue(depth), threading.Event()

    def _put(*result: Any) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(result, timeout=0.1)
                return

    def _work() -> None:
        try:
            for item in items:
                _put(item, None)
                if closed.is_set():
                    return
            _put(None, None)
        except BaseException as error:
            _put(None, error)

    thread = threading.Thread(target=_work, name="prefetch", daemon=True)
    try:
        thread.start()
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        closed.set()
        # The thread ends after its current read, which on a network may never return.
        thread.join(_PATIENCE)
