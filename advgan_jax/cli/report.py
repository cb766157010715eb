"""Write the report of a finished run, or of several in comparison."""

from collections.abc import Sequence

from advgan_jax.cli.errors import Parser, exit_with_error


def run(given: Sequence[str]) -> None:
    """Write the page, as a command."""
    parser = Parser("report")
    parser.add_argument("workdirs", metavar="WORKDIR", nargs="+")
    parser.add_argument("--out", metavar="PATH")
    chosen = parser.parse_args(given)
    print(f"reading {', '.join(chosen.workdirs)}", flush=True)
    from advgan_jax.reporting.page import write_report

    try:
        path = write_report(chosen.workdirs, chosen.out)
    except (OSError, ValueError) as error:  # The messages contain the cure.
        exit_with_error(error)
    print(f"{path} is complete ({path.stat().st_size / 1000:.0f} kB)")
