"""The number of cores that this process may use."""

import os


def num_cores() -> int:
    """Return the number, which in a container may be below the machine's."""
    if hasattr(os, "sched_getaffinity"):  # there is none on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
