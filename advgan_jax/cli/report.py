"""Write the report of a finished run or a training, or of several in comparison."""

import os
from collections.abc import Sequence

from advgan_jax.cli.errors import Parser, exit_with_error


def run(given: Sequence[str]) -> None:
    """Write the page, as a command."""
    parser = Parser("report")
    parser.add_argument("workdirs", metavar="WORKDIR", nargs="+")
    parser.add_argument("--out", metavar="PATH")
    chosen = parser.parse_args(given)
    for workdir in chosen.workdirs:  # before the imports, which take seconds
        try:
            os.listdir(workdir)
        except OSError as error:
            exit_with_error(
                f"{workdir} cannot be read ({error.strerror}); pass the folder that "
                "`--workdir` of a run or `workdir=` of a training was."
            )
    print(f"reading {', '.join(chosen.workdirs)}", flush=True)
    from advgan_jax.reporting.page import write_report

    try:
        path = write_report(chosen.workdirs, chosen.out)
    except (OSError, ValueError) as error:  # The messages contain the cure.
        exit_with_error(error)
    print(f"{path} is complete ({path.stat().st_size / 1000:.0f} kB)")
