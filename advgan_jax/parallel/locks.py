"""Locks of folders: one run at a time writes into a folder.

A locked folder contains a file that names the process. The operating system releases
the lock of a process that ends in any way, so no lock outlives its process, and another
run takes the folder over.
"""

import contextlib
import errno
import itertools
import logging
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from advgan_jax.parallel.processes import agreed, first_alone

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl: Any = None

LOCK = ".lock"
_SECONDS = 0.5  # between two attempts to get a lock
_SILENT = 2  # attempts without a warning: to read a finished model takes a second
# Errors of file systems without locks, and of folders that cannot be written.
_CANNOT_LOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LOCKS = "%s cannot be locked on this system; start no second run there."
_log = logging.getLogger(__name__)
_held: dict[pathlib.Path, int] = {}  # threads by the folders that they have locked


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Lock a folder, which is created if missing, while the block runs.

    A thread may lock a folder again that it has locked already. Of several processes
    that act in step, the first one locks it for all of them. A folder that this process
    cannot write to needs no lock.

    Args:
      folder: the folder.
      wait: whether to wait until another run has released the folder; a warning names
        that run.

    Raises:
      ValueError: if another run has locked the folder, and `wait` is False.
    """
    folder, thread = pathlib.Path(folder).resolve(), threading.get_ident()
    if _held.get(folder) == thread:
        yield
        return
    with contextlib.ExitStack() as stack:
        _acquire(folder, stack, wait=wait)
        _held[folder] = thread
        stack.callback(_held.pop, folder)
        yield


def _acquire(folder: pathlib.Path, stack: contextlib.ExitStack, *, wait: bool) -> None:
    """Lock a folder until the stack is closed."""
    holder: str | None = None

    def _try() -> None:
        nonlocal holder
        holder = _try_to_lock(folder, stack)
        if holder and not wait:
            raise ValueError(
                f"{folder} is in use by {holder}; wait until it ends, or choose "
                "another folder."
            )

    for attempt in itertools.count():
        first_alone(_try)
        if agreed(holder is None):
            return
        if holder and attempt == _SILENT:
            _log.warning("Waiting for %s, which uses %s.", holder, folder)
        time.sleep(_SECONDS)


def _try_to_lock(folder: pathlib.Path, stack: contextlib.ExitStack) -> str | None:
    """Lock a folder and return None, or return the process that has locked it."""
    if fcntl is None:
        _log.warning(_NO_LOCKS, folder)
        return None
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Never through a link, which might point to a file of somebody else.
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileExistsError as error:
            raise ValueError(f"{folder} is a file; choose another folder.") from error
        except FileNotFoundError:
            continue  # another process has just deleted the empty folder
        except OSError as error:
            if error.errno in _CANNOT_WRITE:
                return None
            if error.errno == errno.ELOOP:
                raise ValueError(
                    f"{path} must be a run's lock, got a symbolic link, which no run "
                    "makes; delete it, or choose another folder."
                ) from error
            raise
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            return holder or "another process"
        except OSError as error:
            os.close(file)
            if error.errno not in _CANNOT_LOCK:
                raise
            path.unlink(missing_ok=True)
            _log.warning(_NO_LOCKS, folder)
            return None
        # Another process may have deleted the file between the two calls above.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                break
        os.close(file)
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    stack.callback(_release, file, path, made)
    return None


def _release(file: int, path: pathlib.Path, made: list[pathlib.Path]) -> None:
    """Delete the file while it is locked, and folders that were made and stay empty."""
    path.unlink(missing_ok=True)
    os.close(file)
    with contextlib.suppress(OSError):
        for folder in made:
            folder.rmdir()
