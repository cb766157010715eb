"""Run commands in forks of one process: their imports take most of the time.

    python fork_commands.py REPOSITORY FOLDER < COMMANDS

COMMANDS is a JSON list of lists: a script and its arguments. They run in FOLDER. The
output is a JSON list of exit statuses and of what the commands wrote to stderr. The
script `advgan-jax` stands for the installed command.
"""

import json
import os
import pathlib
import runpy
import sys
import tempfile

from advgan_jax.cli import command  # noqa: F401
from advgan_jax.cli.main import main
from advgan_jax.data import load_dataset
from advgan_jax.runs.methods import challenge  # noqa: F401


def run(repository, arguments):
    """Run a script in a fork; return its exit status and its stderr."""
    script, *rest = arguments
    rest = [
        a.replace("--config=configs", f"--config={repository}/configs") for a in rest
    ]
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            os.dup2(errors.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            path = str(repository / "experiments" / script)
            sys.argv = [path, *rest]
            status = 1
            try:
                if script == "advgan-jax":
                    main()
                else:
                    runpy.run_path(path, run_name="__main__")
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(status)
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), errors.read().decode()


if __name__ == "__main__":
    repository = pathlib.Path(sys.argv[1]).absolute()
    commands = json.load(sys.stdin)
    os.chdir(sys.argv[2])
    load_dataset("digits")
    json.dump([run(repository, arguments) for arguments in commands], sys.stdout)
