"""A rival, or one of ours, in a process of its own that takes turns with others."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

_HERE = pathlib.Path(__file__).parent
# What `process.keep_memory` sets, for a process that is not ours.
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=18446744073709551615"


class Contender:
    """A process that makes a turn when it is told to; see `_success.in_turns`.

    Attributes:
      told: the lines that the process wrote before it was ready.
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
        self.told = None

    def get_ready(self):
        self.told = self._wait_for("ready")

    def __call__(self):
        """Makes a turn; it is over when the process says so."""
        with contextlib.suppress(BrokenPipeError):  # how it ended is told below
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        self._wait_for("done")

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _wait_for(self, word):
        """The lines before the one that says it."""
        before = []
        for line in self._process.stdout:
            if line.strip() == word:
                return before
            before.append(line)
        raise RuntimeError(f"{self._script} ended with {self._process.wait()}.")


@contextlib.contextmanager
def started(plans):
    """Contenders by name, all of them ended afterwards, whatever happens.

    Args:
      plans: by name, the script, its settings, and its environment, a dictionary.
    """
    with contextlib.ExitStack() as stack:
        found = {}
        for name, (script, settings, environment) in plans.items():
            found[name] = Contender(script, settings, **environment)
            stack.callback(found[name].end)
            found[name].get_ready()
        yield found
