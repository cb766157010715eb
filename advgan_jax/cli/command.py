"""Run the configuration of the flags, and print its table of results."""

import os
import sys
from typing import NoReturn

import jax
from absl import flags

from advgan_jax import parallel, runs
from advgan_jax.cli import errors, faults, options
from advgan_jax.cpu import process
from advgan_jax.reporting import format_table


def run() -> None:
    """Run the configuration of the flags, as a command."""
    faults.run(main, "Add --resume to resume.")


def main(argv: list[str]) -> None:
    """Run the configuration of the flags, and print the table of results last."""
    del argv
    faults.quiet_libraries()
    # These settings must precede the first computation, which connecting runs.
    process.set_compilation_cache(flags.FLAGS.compilation_cache)
    process.split_cpu(flags.FLAGS.cpu_devices)
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
    chosen = flags.FLAGS
    given = (chosen.coordinator, chosen.num_processes, chosen.process_id)
    if flags.FLAGS.distributed:
        own = parallel.HEARTBEAT if chosen.heartbeat is None else chosen.heartbeat
        parallel.start(*given, heartbeat=own)
    elif any(value is not None for value in given):
        errors.exit_with_error(
            "--coordinator, --num_processes and --process_id need --distributed."
        )


def _check_backend() -> None:
    if flags.FLAGS.cpu_devices == 1:
        return
    backend = jax.default_backend()
    if backend != "cpu":
        errors.exit_with_error(
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
    os._exit(errors.LOST)


def _run() -> None:
    chosen, workdir = flags.FLAGS, options.workdir()
    again = {"resume": chosen.resume, "overwrite": chosen.overwrite}
    rows = runs.train(chosen.config, workdir, **again)
    if not parallel.is_first():
        return
    print(f"Results, figures and checkpoints are in {workdir}")
    print(format_table(rows))
