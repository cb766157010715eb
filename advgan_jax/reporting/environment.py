"""Versions and devices of a run, without the name of a machine or a user."""

import datetime
import importlib.metadata
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

import advgan_jax
from advgan_jax.cpu.cores import num_cores

_DISTRIBUTIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_PACKAGE = pathlib.Path(advgan_jax.__file__).parent


def versions() -> dict[str, str | None]:
    """Return the versions of Python and all packages that results depend on, by name.

    `git` is the short hash of the checkout that contains this package, with `-dirty` if
    files were changed. A missing version is None.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**found, "advgan_jax": advgan_jax.__version__, "git": _git_hash(_PACKAGE)}


def describe_origin() -> dict[str, Any]:
    """Return where and when numbers are measured: `versions`, `device` and `date`."""
    today = datetime.date.today().isoformat()
    return {"versions": versions(), "device": device_name(), "date": today}


def command_line() -> str:
    """Return the command that repeats this run from the start, in any environment."""
    program, *rest = [*sys.orig_argv[1:], ""]
    rest = [a for a in rest if a not in ("--resume", "--overwrite")]
    installed = pathlib.Path(program).name == "advgan-jax"
    start = ["advgan-jax"] if installed else ["python", program]
    return shlex.join([*start, *rest[:-1]])


def device_name() -> str:
    """Return the devices and CPU cores: `gpu (NVIDIA H200) x 1, 16 CPU cores`."""
    first, count = jax.devices()[0], jax.device_count()
    name = first.platform
    if first.device_kind != name:
        name += f" ({first.device_kind})"
    if first.platform != "cpu" or count > 1:
        name += f" x {count}"
    cores = num_cores()
    return f"{name}, {cores} CPU core{'s' * (cores != 1)}"


def _git_hash(folder: pathlib.Path) -> str | None:
    """Return the hash of the checkout that tracks a folder, or None."""
    # An environment may be inside another project's checkout; its hash is not ours.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(folder, "describe", "--always", "--dirty", "--exclude=*")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    """Return the output of a git command, or None if it fails."""
    command = ("git", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
