"""A rival, or one of ours, in a process of its own that takes turns with others."""

import json
import os
import pathlib
import subprocess
import sys

_HERE = pathlib.Path(__file__).parent
# What `_process.keep_memory` sets, for a process that is not ours.
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=18446744073709551615"


class Contender:
    """A process that makes a turn when it is told to; see `_success.in_turns`.

    Attributes:
      told: what the process wrote before it was ready, from JSON; None if nothing.
    """

    def __init__(self, script, settings, **environment):
        command = [sys.executable, str(_HERE / script), json.dumps(settings)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        before = self._wait_for("ready")
        self.told = json.loads(before[-1]) if before else None

    def __call__(self):
        """Makes a turn; it is over when the process says so."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._wait_for("done")

    def end(self):
        self._process.stdin.close()
        self._process.wait()

    def _wait_for(self, word):
        """The lines before the one that says it."""
        before = []
        for line in self._process.stdout:
            if line.strip() == word:
                return before
            before.append(line)
        raise RuntimeError(f"A contender ended with {self._process.wait()}.")
