"""End a command when a run fails: one line on stderr, and an exit status."""

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from advgan_jax import runs
from advgan_jax.oracles import OracleError

# Errors of the caller, and errors whose message contains the cure.
FAULTS = (ValueError, TypeError, OSError, ImportError, FloatingPointError, OracleError)
REFUSED = 2
LOST = 3  # another process of the run ended
INTERRUPTED = 130  # what shells report after Ctrl-C
_FRAMES = "JAX has removed its internal frames"


@contextlib.contextmanager
def one_line_errors(how_to_resume: str) -> Iterator[None]:
    """End the process with one line if the block raises one of `FAULTS` or stops.

    The sentence `how_to_resume` follows the message of an interrupted run.
    """
    try:
        yield
    except runs.Stopped as stopped:
        print(f"{stopped} {how_to_resume}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        print(f"Interrupted. {how_to_resume}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except FAULTS as error:
        # A traceback, or JAX's note on its own frames, would hide the cure.
        notes = [n for n in getattr(error, "__notes__", []) if _FRAMES not in n]
        exit_with_error("\n".join([str(error), *notes]))


def exit_with_error(error: object) -> NoReturn:
    """End the process with an error message and the status `REFUSED`."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(REFUSED)
