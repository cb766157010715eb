"""What a process of an experiment sets up before it computes anything."""

import os
import pathlib
import sys

import jax

NOWHERE = "none"


def default_cache() -> pathlib.Path:
    """Where compiled programs are kept unless the user says otherwise."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return pathlib.Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "advgan_jax" / "programs"


def keep_programs(directory: str | None) -> None:
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
