"""The command line that the experiments share; each of them tells what it is for."""

import argparse
import pathlib
import re
import sys
from collections.abc import Mapping

from absl import app, flags, logging
from ml_collections import config_flags

from advgan_jax import runs
from advgan_jax.oracles import OracleError
from advgan_jax.reporting import format_table

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration file.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run (default: runs/METHOD-DATASET-MODEL)."
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in the workdir.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Discard the run in the workdir, but keep its target models."
)
flags.mark_flag_as_required("config")

_FAULTS = (ValueError, TypeError, OSError, ImportError, FloatingPointError, OracleError)
INTERRUPTED = 130  # what shells report after Ctrl-C


def main(argv: list[str]) -> None:
    """Runs, and prints the table of results last."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file it writes
    config = _CONFIG.value
    name = f"{config.method}-{config.dataset}-{config.target_model}"
    workdir = _WORKDIR.value or "runs/" + re.sub(r"[^\w.-]+", "_", name)
    try:
        rows = runs.train(
            config, workdir, resume=_RESUME.value, overwrite=_OVERWRITE.value
        )
    except runs.Stopped as stopped:
        print(f"{stopped} Go on with --resume.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        print("Interrupted; go on with --resume.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except _FAULTS as error:
        # The caller's mistakes come with their cure; a traceback would bury it.
        notes = getattr(error, "__notes__", [])
        print("\n".join([f"error: {error}", *notes]), file=sys.stderr)
        sys.exit(2)
    print(f"Results, figures and checkpoints are in {workdir}")
    print(format_table(rows))


def as_config(
    argv: list[str],
    usage: str,
    choice: str,
    config_file: pathlib.Path,
    scales: Mapping[str, str],
) -> list[str]:
    """Replaces `--CHOICE` and `--scale` by values of a configuration.

    Args:
      argv: of the command.
      usage: what `--scale=unknown` is answered with.
      choice: the field that says what is run, `study` say.
      config_file: of which a scale is a variant.
      scales: variants by scale, `cpu` among them, which is the default.

    Returns:
      The arguments that `main` understands.
    """
    parser = argparse.ArgumentParser(
        usage=usage, add_help=False, allow_abbrev=False, argument_default=None
    )
    parser.add_argument(f"--{choice}", dest="choice")
    parser.add_argument("--scale", choices=scales)
    own, rest = parser.parse_known_args(argv[1:])
    given = any(argument.split("=")[0] == "--config" for argument in rest)
    if given and own.scale:
        parser.error("--scale chooses the configuration; leave it out with --config.")
    config = [] if given else [f"--config={config_file}:{scales[own.scale or 'cpu']}"]
    chosen = [f"--config.{choice}={own.choice}"] if own.choice else []
    return [argv[0], *config, *rest, *chosen]
