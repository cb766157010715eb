"""Errors of a command line: one line and an exit status, before any large import."""

import argparse
import re
import sys
import traceback
from typing import NoReturn

from absl import flags

REFUSED = 2
LOST = 3  # another process of the run ended
INTERRUPTED = 130  # what shells report after Ctrl-C
_LEAST_ADDRESSES = 6 * 2**30  # bytes; the default command fails at 2.5 GiB


def exit_with_error(error: object) -> NoReturn:
    """End the process with an error message, in one line, and the status `REFUSED`."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(REFUSED)


class Parser(argparse.ArgumentParser):
    """Parse the arguments of a command that reads no configuration."""

    def __init__(self, command: str) -> None:
        """Name the command, whose help the caller prints."""
        super().__init__(
            prog=f"advgan-jax {command}", add_help=False, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """End the process with one line, as all commands do."""
        exit_with_error(f"{message}; see `{self.prog} --help`.")


def check_address_space() -> None:
    """End the process if its memory is limited so that XLA would abort it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESSES:
        exit_with_error(
            f"The address space of this process is limited to {limit / 2**30:.1f} GiB, "
            f"and JAX reserves {_LEAST_ADDRESSES / 2**30:.0f} GiB, most of which it "
            "never uses; raise the limit with `ulimit -v unlimited`."
        )


def parse(arguments: list[str]) -> list[str]:
    """Parse the flags, or end the process with one line."""
    try:
        rest = flags.FLAGS(arguments)
        if "config" in flags.FLAGS:
            _ = flags.FLAGS.config.method  # raises if the file cannot be read
    # A file of a configuration is Python code, which may raise anything.
    except Exception as error:
        exit_with_error(_describe(error, arguments))
    if len(rest) > 1:
        exit_with_error(
            f"Unexpected arguments: {' '.join(rest[1:])}; a flag begins with `--`."
        )
    return rest


def _describe(error: Exception, arguments: list[str]) -> str:
    """Return one line about an error that occurred while flags were parsed."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    # The last line names the cause; those before it may be a traceback.
    *_, text = ["", *str(error.args[0] if error.args else error).splitlines()]
    if isinstance(error, AttributeError | KeyError) and "ml_coll" in frame.filename:
        if "has no attribute 'get_config'" in text:
            return "The configuration file must have a function `get_config`."
        words = text.replace("\\n", ". ").replace("\\", "").strip("'\"")
        hint = "" if "'" in words else _how_to_add(words, arguments)
        return f"Unknown setting '{words}{hint}"
    if isinstance(error, flags.Error | ValueError | OSError):
        return re.sub(r"^\w+: ", "", text.strip())
    place = f"{frame.filename}, line {frame.lineno}"
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
    return f"{type(error).__name__}: {text} ({place})"


def _how_to_add(name: str, arguments: list[str]) -> str:
    """Return the cure for a setting that resembles none of its section."""
    paths = (a.split("=")[0].removeprefix("--") for a in arguments)
    path = next((p for p in paths if p.endswith(f".{name}")), f"config.{name}")
    return (
        "'. A flag overrides what a configuration has; to add an argument of an "
        f"attack, pass the path of a file whose `get_config` sets `{path}`."
    )
