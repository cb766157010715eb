"""The flags and the main function of the scripts in `experiments/`."""

import argparse
import os
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from advgan_jax import configs, parallel, runs
from advgan_jax.cli import faults
from advgan_jax.cpu import process
from advgan_jax.reporting import format_table

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration file.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run (default: runs/METHOD-DATASET-MODEL)."
)
_RESUME = flags.DEFINE_bool("resume", False, "Continue the run in the workdir.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Discard the run in the workdir, but keep its target models."
)
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder of compiled programs, or none (default: JAX_COMPILATION_CACHE_DIR, or "
    "advgan_jax/programs in the user's cache folder).",
)
_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    1,
    "Devices into which the CPU is split, at most one for each core. Training is "
    "faster, and differs in rounding and in random draws.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Run together with the same command in other processes."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0; detected on TPU pods, Slurm and GKE."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "The number of processes.")
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "The number of this process, from 0."
)
_HEARTBEAT = flags.DEFINE_integer(
    "heartbeat",
    parallel.HEARTBEAT,
    "Seconds without a sign of life after which a process counts as lost.",
)
flags.mark_flag_as_required("config")

_RESUME_HINT = "Add --resume to resume."
_CONFIGS = pathlib.Path(configs.__file__).parent


def main(argv: list[str]) -> None:
    """Run the configuration of the flags, and print the table of results last."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # Orbax logs every file that it writes
    with faults.one_line_errors(_RESUME_HINT):
        # These settings must precede the first computation, which connecting runs.
        process.set_compilation_cache(_CACHE.value)
        process.split_cpu(_CPU_DEVICES.value)
        process.compute_in_caller()
    try:
        _connect()
        _check_backend()
        process.keep_memory()
        _run()
    except jax.errors.JaxRuntimeError as error:
        if parallel.num_processes() == 1:
            raise
        _exit_without_others(error)


def _connect() -> None:
    given = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if _DISTRIBUTED.value:
        try:
            parallel.start(*given, heartbeat=_HEARTBEAT.value)
        except ValueError as error:
            faults.exit_with_error(error)
    elif any(value is not None for value in given):
        faults.exit_with_error(
            "--coordinator, --num_processes and --process_id need --distributed."
        )


def _check_backend() -> None:
    if _CPU_DEVICES.value == 1:
        return
    backend = jax.default_backend()
    if backend != "cpu":
        faults.exit_with_error(
            f"--cpu_devices needs a CPU, got {backend}; omit it, or set "
            "JAX_PLATFORMS=cpu."
        )


def _exit_without_others(error: Exception) -> NoReturn:
    """End a process at once when it lost the others: an orderly exit would wait."""
    this, number = jax.process_index(), parallel.num_processes()
    print(
        f"error: Process {this} of {number} cannot reach the others, one of which must "
        f"have ended ({str(error).splitlines()[0]}). Checkpoints are complete; start "
        "all processes again with --resume.",
        file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(faults.LOST)


def _run() -> None:
    config = _CONFIG.value
    name = f"{config.method}-{config.dataset}-{config.target_model}"
    workdir = _WORKDIR.value or "runs/" + re.sub(r"[^\w.-]+", "_", name)
    with faults.one_line_errors(_RESUME_HINT):
        rows = runs.train(
            config, workdir, resume=_RESUME.value, overwrite=_OVERWRITE.value
        )
    if not parallel.is_first():
        return
    print(f"Results, figures and checkpoints are in {workdir}")
    print(format_table(rows))


def as_config(
    argv: list[str],
    usage: str,
    choice: str,
    config_name: str,
    scales: Mapping[str, str],
) -> list[str]:
    """Return the arguments for `main`: `--CHOICE` and `--scale` as flags of a config.

    `choice` is a field such as `study`; `scales` maps each scale to a variant of the
    configuration `config_name`. An unknown scale prints `usage`.
    """
    parser = argparse.ArgumentParser(
        usage=usage, add_help=False, allow_abbrev=False, argument_default=None
    )
    parser.add_argument(f"--{choice}", dest="choice")
    parser.add_argument("--scale", choices=scales)
    own, rest = parser.parse_known_args(argv[1:])
    given = any(argument.split("=")[0] == "--config" for argument in rest)
    if given and own.scale:
        parser.error("--scale chooses the configuration; omit it with --config.")
    config = (
        []
        if given
        else [f"--config={_CONFIGS / config_name}.py:{scales[own.scale or 'cpu']}"]
    )
    chosen = [f"--config.{choice}={own.choice}"] if own.choice else []
    return [argv[0], *config, *rest, *chosen]
