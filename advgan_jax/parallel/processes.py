"""Several processes: one program, run in step by all of them.

JAX's own runtime connects them. A process that dies ends the others: their common
computation fails, or the runtime misses its heartbeat (`HEARTBEAT`) and ends them.
"""

import contextlib
import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from advgan_jax.parallel.placing import spread

HEARTBEAT = 100  # seconds without a sign of life after which a process is lost
_MESSAGE = 2000  # bytes of an error that the other processes receive
_calls = itertools.count(1)


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat: int = HEARTBEAT,
) -> None:
    """Connect this process to the others, before any other use of JAX.

    On Cloud TPU, Slurm and GKE, omit the first three: JAX detects them.

    Args:
      coordinator: `host:port` of the first process.
      num_processes: number of all processes.
      process_id: number of this process, from 0.
      heartbeat: seconds without a sign of life after which a process is lost.

    Raises:
      ValueError: if only some of the three are given, a number is out of range, or
        the processes cannot connect.
    """
    names = ("coordinator", "num_processes", "process_id")
    given = (coordinator, num_processes, process_id)
    missing = [n for n, value in zip(names, given, strict=True) if value is None]
    if missing and len(missing) < len(given):
        raise ValueError(
            "`coordinator`, `num_processes` and `process_id` belong together, got no "
            f"{' and no '.join(missing)}; give all of them, or none where JAX detects "
            "them (Cloud TPU, Slurm, GKE)."
        )
    if (
        num_processes is not None
        and process_id is not None
        and not 0 <= process_id < num_processes
    ):
        raise ValueError(
            f"`process_id` must be in [0, {num_processes}), got {process_id}."
        )
    if heartbeat < 1:
        raise ValueError(f"`heartbeat` must be at least 1 second, got {heartbeat}.")
    if coordinator is not None:
        _check_address(coordinator)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except RuntimeError as error:
        raise ValueError(
            f"The processes cannot connect ({' '.join(str(error).split())}); start all "
            "of them at once, with the same coordinator."
        ) from error
    # The first common computation sets up some networks, and fails if a process is half
    # a minute late. Here all have just connected.
    agreed(True)
    total = jax.jit(jnp.sum)(spread(np.ones(jax.device_count(), np.float32)))
    jax.block_until_ready(total)


def _check_address(address: str) -> None:
    """Raise `ValueError` unless `address` is `host:port` of a known host."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            "`coordinator` must be `host:port` of the first process, such as "
            f"10.0.0.1:1234, got {address!r}."
        )
    try:
        socket.getaddrinfo(host.strip("[]"), port)
    except OSError as error:
        raise ValueError(
            f"`coordinator` must name a host of the network, {host!r} is unknown "
            f"({error.strerror})."
        ) from error


def num_processes() -> int:
    """Return how many processes run this program in step."""
    return jax.process_count()


def is_first() -> bool:
    """Return whether this process writes the logs, figures and results."""
    return jax.process_index() == 0


def agreed(value: bool) -> bool:
    """Return the first process's value, for decisions that depend on files.

    All processes must call it in the same order.
    """
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(value)))


def first_alone(action: Callable[[], None]) -> None:
    """Run an action in the first process while the others wait.

    If it raises, the others raise a `ValueError` with the same message.
    """
    if jax.process_count() == 1:
        action()
        return
    error, text = None, ""
    if is_first():
        try:
            action()
        except Exception as raised:
            error, text = raised, str(raised) or repr(raised)
    sent = text.encode()[:_MESSAGE].ljust(_MESSAGE, b"\0")
    received = multihost_utils.broadcast_one_to_all(np.frombuffer(sent, np.uint8))
    if error is not None:
        raise error
    message = bytes(received).rstrip(b"\0").decode(errors="replace")
    if message:
        raise ValueError(message)


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Run the block in the first process before the others, which reuse its results."""
    several = jax.process_count() > 1
    if several and not is_first():
        multihost_utils.sync_global_devices("first")
    try:
        yield
    finally:
        if several and is_first():
            multihost_utils.sync_global_devices("first")


@contextlib.contextmanager
def agreed_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether to stop, the same in all processes.

    After a SIGTERM or Ctrl-C of any process, the runtime chooses a future call. It and
    all later calls return True. Calls before it cost no communication.
    """
    stopped = False

    def _stop() -> bool:
        nonlocal stopped
        if not stopped:
            stopped = multihost_utils.reached_preemption_sync_point(next(_calls))
        return stopped

    def _handle(number: int, frame: Any) -> None:
        # The runtime listens to SIGTERM. A second Ctrl-C has its usual effect.
        del number, frame
        signal.signal(signal.SIGINT, before)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGINT, _handle)
    try:
        yield _stop
    finally:
        signal.signal(signal.SIGINT, before)
