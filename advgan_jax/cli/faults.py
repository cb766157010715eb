"""How the experiments end when something goes wrong: one line, and a status."""

import contextlib
import sys
from collections.abc import Iterator

from advgan_jax import runs
from advgan_jax.oracles import OracleError

# The caller's mistakes, and what else comes with its cure.
FAULTS = (ValueError, TypeError, OSError, ImportError, FloatingPointError, OracleError)
_FRAMES = "JAX has removed its internal frames"
REFUSED = 2
INTERRUPTED = 130  # what shells report after Ctrl-C


@contextlib.contextmanager
def told(go_on: str) -> Iterator[None]:
    """Ends the process with one line for what is no fault of the program.

    Args:
      go_on: how an interrupted run is continued.
    """
    try:
        yield
    except runs.Stopped as stopped:
        print(f"{stopped} {go_on}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        print(f"Interrupted. {go_on}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except FAULTS as error:
        # A traceback would bury the cure, and so would JAX's note on its own frames.
        notes = [n for n in getattr(error, "__notes__", []) if _FRAMES not in n]
        refuse("\n".join([str(error), *notes]))


def refuse(error: object) -> None:
    """Ends the process with what is wrong."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(REFUSED)
