"""What steps are fed with: data that is on the devices, or is read while they train.

Both follow one order, so both make the same parameters. The order of an epoch is drawn
on the device and stays there; calls cut their batches out of it.
"""

import collections
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
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
    """A split that is too large for the devices: read batch by batch, ahead of time.

    Each process reads the rows of its own devices, in a thread of its own.

    Attributes:
      split: what to read.
      mode: that of the compiled steps, see `parallel.choose_mode`.
      depth: how many calls' batches are kept ready, at least 1, and how many calls may
        be under way. Each call's images lie on the devices, so where they are too many
        for them, make fewer steps a call.
    """

    split: Split
    mode: str = "auto"
    depth: int = 2

    def __post_init__(self):
        checks.check_at_least("depth", self.depth, 1)


def iterate_calls(
    data: Batch | Stream,
    plan: Any,
    order_key: Array,
    step: int,
    rows_fn: RowsFn = lambda places: places,
) -> Iterator[tuple[Batch, parallel.BatchRows]]:
    """The data and rows of each call, from `step` to the end of the plan.

    Args:
      data: all training images, or where to read them.
      plan: a `fit.Plan`.
      order_key: typed key of the shuffles.
      step: how many steps have been made.
      rows_fn: makes rows of the shuffled places of an epoch.

    Returns:
      A generator of arguments for compiled steps; close it when done.
    """
    cuts = _cuts(plan, order_key, step, rows_fn)
    if not isinstance(data, Stream):
        return ((data, rows) for rows in cuts)
    return prefetch(_read(data, cuts), data.depth)


def limit_in_flight(run: Callable[..., tuple], ahead: int) -> Callable[..., tuple]:
    """Lets no more than some calls of compiled steps be under way.

    What was sent off keeps its images on the devices until it has run.

    Args:
      run: compiled steps.
      ahead: how many calls may be under way when another is sent off.

    Returns:
      The same, waiting where it must.
    """
    under_way = collections.deque(maxlen=ahead)

    def call(*arguments):
        if len(under_way) == ahead:
            jax.block_until_ready(under_way[0])
        state, metrics = run(*arguments)
        under_way.append(metrics)
        return state, metrics

    return call


def _cuts(plan, order_key, step, rows_fn) -> Iterator[parallel.BatchRows]:
    size = plan.steps_per_call
    while step < plan.num_steps:
        epoch, done = divmod(step, plan.steps_per_epoch)
        places = _places(
            order_key,
            epoch,
            (plan.steps_per_epoch, plan.batch_size),
            plan.num_examples,
        )
        order = rows_fn(places)
        for first in range(done, plan.steps_per_epoch, size):
            count = min(size, plan.steps_per_epoch - first)
            yield parallel.BatchRows(order, np.int32(first), count)
        step += plan.steps_per_epoch - done


@partial(jax.jit, static_argnums=(2, 3))
def _places(key, epoch, shape, num_examples):
    """An epoch's batches `[S, B]`; what is left over waits for the next shuffle."""
    return shuffled(key, epoch, num_examples)[: shape[0] * shape[1]].reshape(shape)


def _read(stream: Stream, cuts: Iterator[parallel.BatchRows]):
    order = rows = None
    for cut in cuts:
        if cut.order is not order:
            order, rows = cut.order, np.asarray(cut.order)
        wanted = rows[cut.first : cut.first + cut.count]
        yield parallel.shard(stream.split.rows, wanted, stream.mode)


def prefetch(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """Lets a thread make the next items while the last one is used.

    Args:
      items: what the thread iterates over; none is None.
      depth: how many items may be ready and not yet taken.

    Yields:
      The items, in order.

    Raises:
      BaseException: what the thread raised, where its item would have come.
    """
    ready, closed = queue.Queue(depth), threading.Event()

    def hand_over(*result):
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(result, timeout=0.1)
                return

    def work():
        try:
            for item in items:
                hand_over(item, None)
                if closed.is_set():
                    return
            hand_over(None, None)
        except BaseException as error:
            hand_over(None, error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
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
        # It ends after the read it is in, which on a network may never come back.
        thread.join(_PATIENCE)
