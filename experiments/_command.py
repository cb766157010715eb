"""The command line that the experiments share; each of them tells what it is for."""

import re
import sys

import _process
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
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder for compiled programs, or none (default: JAX_COMPILATION_CACHE_DIR, or "
    "advgan_jax/programs in the user's cache folder).",
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
        _process.keep_programs(_CACHE.value)
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
