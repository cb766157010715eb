"""Connect a program to the other processes."""

import sys

from advgan_jax import parallel


def connect():
    """Connects to the others, and returns the program's own arguments."""
    coordinator, number, this, *arguments = sys.argv[1:]
    if int(number) > 1:
        parallel.start(coordinator, int(number), int(this))
    return arguments
