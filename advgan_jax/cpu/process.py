"""What a process of an experiment sets up before it computes anything."""

import ctypes
import os
import pathlib
import sys

import jax

from advgan_jax.cpu.cores import num_cores

NOWHERE = "none"
# Options of glibc's `mallopt`.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Has freed memory kept for the next step, on a CPU where the C library is glibc.

    A step allocates a hundred megabytes of intermediate results. glibc gives blocks so
    large back to the system as soon as they are free, which then hands them out page
    by page, zeroed: a quarter of the time of a step on a CPU. Kept, the process stays
    as large as it ever was, and blocks of many sizes may leave holes between them. To
    be called when processes are connected: it asks JAX what it computes on.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "gnu_get_libc_version") or jax.default_backend() != "cpu":
        return
    # No block is the system's to take back, and no end of the heap is cut off.
    if libc.mallopt(_MMAP_MAX, 0) != 1 or libc.mallopt(_TRIM_THRESHOLD, -1) != 1:
        print(
            "warning: freed memory is not kept, for the C library refuses it; a step "
            "takes a third longer.",
            file=sys.stderr,
        )


def compute_in_caller() -> None:
    """Has a CPU that is one device compute in the thread that calls.

    glibc keeps no more than 64 MiB for any other thread, so `keep_memory` would be in
    vain. Several devices need threads of their own. To be called before the first
    computation, after `split_cpu`.
    """
    several = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not several and jax.config.jax_num_cpu_devices <= 1:
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def split_cpu(num_devices: int) -> None:
    """Makes several devices of the CPU, each with one thread, or leaves it one device.

    Steps that cut their batches over devices use cores better than one device does with
    its threads: most convolutions of these networks are too small to be shared. To be
    called before the first computation.

    Args:
      num_devices: how many; 1 leaves all threads to one device.

    Raises:
      ValueError: if it is not from 1 to the number of cores.
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
    """Where compiled programs are kept unless the user says otherwise."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return pathlib.Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "advgan_jax" / "programs"


def set_compilation_cache(directory: str | None) -> None:
    """Keeps compiled programs on disk, for the next process that needs them.

    JAX finds a program by all it was compiled from: its code, its shapes, the device,
    the flags and the versions. To be called before the first computation: JAX looks at
    the setting then, and not again.

    Args:
      directory: a folder, made if missing; `none` to keep nothing; None for the
        default, without which a run goes on if it cannot be made.

    Raises:
      OSError: if the folder was asked for and cannot be made.
    """
    if directory == NOWHERE:
        # Also where the environment names a folder.
        jax.config.update("jax_enable_compilation_cache", False)
        return
    path = pathlib.Path(directory or default_cache()).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if directory:
            raise
        print(
            f"warning: compiled programs are not kept ({error}); choose a folder with "
            f"--compilation_cache=DIR, or --compilation_cache={NOWHERE}.",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Hundreds of small programs take as long to compile as the few large ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
