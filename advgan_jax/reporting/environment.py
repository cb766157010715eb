"""What a run ran on: versions and device, nothing that tells whose machine it was."""

import importlib.metadata
import pathlib
import platform
import subprocess

import jax

import advgan_jax
from advgan_jax.cpu.cores import num_cores

_DISTRIBUTIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_PACKAGE = pathlib.Path(advgan_jax.__file__).parent


def versions() -> dict[str, str | None]:
    """Versions of all that numbers depend on.

    Returns:
      By name: Python, the numerical packages, `advgan_jax`, and `git`, the short hash
      of the checkout that the package is imported from (with `-dirty` where files were
      changed). None for what is not there.
    """
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**found, "advgan_jax": advgan_jax.__version__, "git": _git_hash(_PACKAGE)}


def device_name() -> str:
    """The devices that JAX computes on and the CPU beside them.

    Returns:
      For example `cpu, 2 CPU cores` or `gpu (NVIDIA H200) x 1, 16 CPU cores`.
    """
    first, count = jax.devices()[0], jax.device_count()
    name = first.platform
    if first.device_kind != name:
        name += f" ({first.device_kind})"
    if first.platform != "cpu" or count > 1:
        name += f" x {count}"
    cores = num_cores()
    return f"{name}, {cores} CPU core{'s' * (cores != 1)}"


def _git_hash(folder: pathlib.Path) -> str | None:
    # An environment may lie in another project's checkout: ask whether that
    # repository tracks our files before its hash is taken for ours.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(folder, "describe", "--always", "--dirty", "--exclude=*")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    command = ("git", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
