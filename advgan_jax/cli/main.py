"""The command `advgan-jax`, and the start of the scripts in `experiments/`.

JAX and the libraries of data sets take seconds to import. Help, and errors of names and
flags, come without them, and so does the first line of a run.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence

from advgan_jax import __version__
from advgan_jax.cli import commands, errors
from advgan_jax.cli.commands import COMMANDS
from advgan_jax.names import unknown_name

_HELP = ("--help", "-h", "-help", "--helpfull")


def main() -> None:
    """Run the sub-command that the arguments of the process name."""
    name, *given = sys.argv[1:] or ["--help"]
    if name in _HELP:
        print(commands.overview())
    elif name == "--version":
        print(__version__)
    elif name in COMMANDS:
        run(name, given)
    else:
        error = unknown_name("command", name, COMMANDS)
        errors.exit_with_error(f"{error} `advgan-jax --help` describes them.")


def run(name: str, given: Sequence[str]) -> None:
    """Run a sub-command with its arguments, as a process: errors end it."""
    # Python's own handler may lose a Ctrl-C during the imports, which take seconds.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Models and configurations of users import the modules beside them, as under
    # `python -m`.
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    wants_help = any(argument in _HELP for argument in given)
    if wants_help:
        print(commands.usage(name))
    else:
        errors.check_address_space()
    # Only now: `export` runs where the libraries of other commands are missing.
    if COMMANDS[name].configs:
        from advgan_jax.cli import configured

        print(configured.describe(name)) if wants_help else configured.run(name, given)
    elif not wants_help:
        importlib.import_module(f"advgan_jax.cli.{name}").run(given)
