"""The flags of the commands that read a configuration, defined when one of them runs.

Flags are global to a process, and this module imports nothing large.
"""

import pathlib
import re
from typing import Any

from absl import flags
from ml_collections import config_flags


def define(command: str) -> list[str]:
    """Define the flags of a command, and return their names.

    `challenge` has fewer flags than the commands that write a workdir.
    """
    config_flags.DEFINE_config_file(
        "config", None, "A configuration: NAME[:VARIANT], or the path of a file."
    )
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Folder of compiled programs, or none (default: JAX_COMPILATION_CACHE_DIR, or "
        "advgan_jax/programs in the user's cache folder).",
    )
    names = ["config", "compilation_cache"]
    if command == "challenge":
        flags.DEFINE_string("file", None, "The adversarial images, an .npy file.")
        flags.mark_flag_as_required("file")
        return [*names, "file"]
    return [*names, *_define_run(), *_define_processes()]


def _define_run() -> list[str]:
    flags.DEFINE_string(
        "workdir", None, "Folder of the run (default: runs/METHOD-DATASET-MODEL)."
    )
    flags.DEFINE_bool("resume", False, "Continue the run in the workdir.")
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Discard the run in the workdir, but keep its target models.",
    )
    flags.DEFINE_integer(
        "cpu_devices",
        1,
        "Devices into which the CPU is split, at most one for each core. Training is "
        "faster, and differs in rounding and in random draws.",
    )
    return ["workdir", "resume", "overwrite", "cpu_devices"]


def _define_processes() -> list[str]:
    flags.DEFINE_bool(
        "distributed", False, "Run together with the same command in other processes."
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "host:port of process 0; detected on TPU pods, Slurm and GKE.",
    )
    flags.DEFINE_integer("num_processes", None, "The number of processes.")
    flags.DEFINE_integer("process_id", None, "The number of this process, from 0.")
    flags.DEFINE_integer(
        "heartbeat",
        None,
        "Seconds without a sign of life after which a process counts as lost "
        "(default: 100).",
    )
    return ["distributed", "coordinator", "num_processes", "process_id", "heartbeat"]


def workdir() -> str:
    """Return the workdir of the flags, or the default one of their configuration."""
    config: Any = flags.FLAGS.config
    # A configuration that lacks one of them is rejected when the run starts.
    names = ("method", "dataset", "target_model")
    parts = [str(config.get(name)) for name in names if config.get(name)]
    if config.get("generator_dir"):
        parts.append(pathlib.Path(config.generator_dir).absolute().name)
    return flags.FLAGS.workdir or "runs/" + re.sub(r"[^\w.-]+", "_", "-".join(parts))
