"""Run a command so that each of its faults ends it with one line and an exit status."""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
from absl import app, flags, logging

from advgan_jax import runs
from advgan_jax.cli.errors import INTERRUPTED, exit_with_error, parse
from advgan_jax.oracles import BudgetExhausted, OracleError

# Errors of the caller, and errors whose message contains the cure.
FAULTS = (ValueError, TypeError, OSError, ImportError, FloatingPointError)
FAULTS += (OracleError, BudgetExhausted)
_FRAMES = "JAX has removed its internal frames"
_NO_MEMORY = (
    "The memory does not suffice ({}). Reduce batch sizes or `widths`, set "
    "`max_resident_bytes` below the size of the data, or use a larger machine."
)


def run(main: Callable[[list[str]], Any], how_to_resume: str = "") -> None:
    """Run a command to its end; see `one_line_errors`. Parse its flags if needed."""
    end_on_signals(how_to_resume)
    parser = (lambda arguments: arguments[:1]) if flags.FLAGS.is_parsed() else parse
    with one_line_errors(how_to_resume):
        app.run(main, flags_parser=parser)


def end_on_signals(how_to_resume: str) -> None:
    """End the process on Ctrl-C and SIGTERM; a training first saves its state.

    The handler raises nothing: Python ignores an exception that comes up in a callback
    of its garbage collector, and the signal would be lost.
    """

    def _end(number: int, frame: Any) -> NoReturn:
        del number, frame
        # Not `print`, which the signal may have interrupted.
        os.write(2, f"\nInterrupted. {how_to_resume}".rstrip().encode() + b"\n")
        os._exit(INTERRUPTED)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def quiet_libraries() -> None:
    """Keep what other libraries log off the terminal, but for warnings.

    Orbax logs each error before it raises it, with a page of its own frames.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax logs every file that it writes
    logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)
    warnings.filterwarnings("ignore", "coroutine .*never awaited", RuntimeWarning)


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
    except FAULTS as error:
        # A traceback, or JAX's note on its own frames, would hide the cure.
        notes = [n for n in getattr(error, "__notes__", []) if _FRAMES not in n]
        exit_with_error(" ".join([str(error), *notes]))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in reason:
            raise
        exit_with_error(_NO_MEMORY.format(reason or "no reason given"))
