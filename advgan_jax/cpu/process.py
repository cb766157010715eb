"""Settings of a process, made before it computes anything: memory, threads, cache."""

import ctypes
import functools
import os
import pathlib
import re
import sys
import warnings
from typing import Any

import jax

from advgan_jax.cpu.cores import num_cores

NOWHERE = "none"
# JAX's warning about a program that a killed process has written by half.
_DAMAGED = r"Error reading persistent compilation cache entry for '(\w+)'"
# Options of glibc's `mallopt`.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Disable memory trimming, so that a step reuses freed memory (CPU with glibc).

    glibc otherwise returns large blocks to the system, which supplies them anew, page
    by page and zeroed; that takes a quarter of a step. Without trimming, resident
    memory stays at its peak. Call it after processes have connected
    (`parallel.start`), because it initialises JAX's backend.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "gnu_get_libc_version") or jax.default_backend() != "cpu":
        return
    # No block comes from `mmap`, and the end of the heap is never returned.
    if libc.mallopt(_MMAP_MAX, 0) != 1 or libc.mallopt(_TRIM_THRESHOLD, -1) != 1:
        print(
            "warning: freed memory is not kept, because the C library rejects the "
            "setting; a step takes a third longer.",
            file=sys.stderr,
        )


def compute_in_caller() -> None:
    """Compute in the calling thread, if the CPU is a single device.

    glibc keeps at most 64 MiB for any other thread, which would defeat `keep_memory`.
    Several devices need their own threads. Call it before the first computation, and
    after `split_cpu`.
    """
    several = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not several and jax.config.values["jax_num_cpu_devices"] <= 1:
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def split_cpu(num_devices: int) -> None:
    """Split the CPU into several devices of one thread each.

    Most convolutions of these models are too small for several threads, so sharded
    batches use the cores better. Call it before the first computation.

    Raises:
      ValueError: if `num_devices` is not from 1 to the number of cores.
    """
    cores = num_cores()
    if not 1 <= num_devices <= cores:
        raise ValueError(
            f"`--cpu_devices` must be from 1 to the {cores} cores, got {num_devices}."
        )
    if num_devices == 1:
        return
    jax.config.update("jax_num_cpu_devices", num_devices)
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def default_cache() -> pathlib.Path:
    """Return the default folder for compiled programs."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return pathlib.Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "advgan_jax" / "programs"


def set_compilation_cache(directory: str | None) -> None:
    """Cache compiled programs on disk for later processes.

    Call it before the first computation: JAX reads the setting then, and never again.
    `directory` is created if missing, for this user alone; `none` disables the cache;
    None is the default folder, with a warning if it cannot be used.

    Raises:
      OSError: if a folder was given and cannot be created, or others can write to it.
    """
    if directory == NOWHERE:
        # Also if the environment names a folder.
        jax.config.update("jax_enable_compilation_cache", False)
        return
    path = pathlib.Path(directory or default_cache()).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(path)
    except OSError as error:
        if directory:
            raise
        print(
            f"warning: compiled programs are not kept ({error}); choose a folder with "
            f"--compilation_cache=DIR, or `set_compilation_cache(DIR)`; {NOWHERE!r} as "
            "DIR keeps none.",
            file=sys.stderr,
        )
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Hundreds of small programs take as long to compile as the few large ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("always", _DAMAGED)
    warnings.showwarning = functools.partial(_repair, path, warnings.showwarning)


def _repair(folder: pathlib.Path, show: Any, message: Any, *details: Any) -> None:
    """Show a warning, unless it is of a damaged program: remove this from `folder`.

    JAX compiles such a program again, but never replaces a file.
    """
    damaged = re.match(_DAMAGED, str(message))
    if not damaged:
        show(message, *details)
        return
    for path in folder.glob(f"{damaged[1]}-*-cache"):
        path.unlink(missing_ok=True)


def _check_private(path: pathlib.Path) -> None:
    """Raise `PermissionError` if others can replace programs, which JAX would run."""
    if not hasattr(os, "getuid"):  # Windows has other permissions
        return
    status = path.stat()
    if status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022:
        raise PermissionError(
            f"other users can write to {path}, so they could have it run their "
            f"programs: chmod 700 {path}"
        )
