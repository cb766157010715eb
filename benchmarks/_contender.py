"""A rival, or a variant of ours, in its own process that takes turns with others."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

_HERE = pathlib.Path(__file__).parent
# The settings of `process.keep_memory`, for a process of another library.
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=18446744073709551615"


class Contender:
    """A process that makes a turn on command; see `_success.in_turns`.

    Attributes:
      startup_lines: the lines that the process printed before it was ready.
    """

    def __init__(self, script, settings, **environment):
        self._script = script
        command = [sys.executable, str(_HERE / script), json.dumps(settings)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.startup_lines = None

    def get_ready(self):
        self.startup_lines = self._wait_for("ready")

    def __call__(self):
        """Make a turn and wait until the process has finished it."""
        with contextlib.suppress(BrokenPipeError):  # `_wait_for` reports how it ended
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        self._wait_for("done")

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _wait_for(self, word):
        """Return the lines before the one that is `word`."""
        before = []
        for line in self._process.stdout:
            if line.strip() == word:
                return before
            before.append(line)
        raise RuntimeError(f"{self._script} ended with {self._process.wait()}.")


@contextlib.contextmanager
def started(plans):
    """Start contenders, and end all of them afterwards even if one fails.

    Args:
      plans: by name, the script, its settings, and its environment variables.

    Yields:
      The contenders by name.
    """
    with contextlib.ExitStack() as stack:
        found = {}
        for name, (script, settings, environment) in plans.items():
            found[name] = Contender(script, settings, **environment)
            stack.callback(found[name].end)
            found[name].get_ready()
        yield found
