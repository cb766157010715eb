"""Damage files, judge what follows, and print the counts after the tests."""

import collections
import json
import random
import shutil
import subprocess
import sys

import pytest

from advgan_jax.cli import faults

_COUNTS = pytest.StashKey()
GOOD = ("right", "right, with a warning", "one line")


def pytest_configure(config):
    config.stash[_COUNTS] = collections.defaultdict(collections.Counter)


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash[_COUNTS]
    if counts:
        terminalreporter.section("injected faults")
    for kind, found in counts.items():
        shares = ", ".join(f"{number} {name}" for name, number in found.items())
        terminalreporter.line(f"{kind}: {sum(found.values())} ({shares})")


@pytest.fixture
def judge(request, caplog):
    """Judge `use`, which meets a fault; collect the outcomes that are not good.

    An outcome is right if `use` returns True, or a warning says what it returns; or it
    is one line that names the file and ends a command with the status of other errors.
    """
    counts = request.config.stash[_COUNTS][request.node.name]
    bad = []

    def _judge(case, use, name):
        caplog.clear()
        try:
            outcome = use()
        except faults.FAULTS as error:
            text = str(error)
            clear = "\n" not in text and name in text
            outcome = "one line" if clear else f"unclear: {text}"
        except Exception as error:
            outcome = f"traceback: {error!r}"
        if outcome in (True, False):
            outcome = "right" if outcome else "silently wrong"
        counts[outcome.split(":")[0]] += 1
        if outcome not in GOOD:
            bad.append(f"{case}: {outcome}")

    yield _judge
    assert not bad, "\n".join(bad)


@pytest.fixture
def damages():
    """Damage files at seeded random places, restore them, and name the cases."""

    def _each(paths, count, seed=0, where=range):
        """Yield the path and the name of each case: flipped bits and cuts.

        `where` maps a size to the bytes that can be damaged.
        """
        generator, paths = random.Random(seed), sorted(map(str, paths))
        for number in range(count):
            path = generator.choice(paths)
            with open(path, "rb") as file:
                whole = file.read()
            place = generator.choice(where(len(whole)))
            if number % 5 == 4:
                damaged, name = whole[:place], f"cut at {place}"
            else:
                damaged, bit = bytearray(whole), generator.randrange(8)
                damaged[place] ^= 1 << bit
                name = f"bit {bit} of byte {place}"
            with open(path, "wb") as file:
                file.write(damaged)
            yield path, f"{path}, {name}"
            with open(path, "wb") as file:
                file.write(whole)

    return _each


@pytest.fixture
def fresh(tmp_path_factory):
    """Copy a folder, so that a test may damage it."""

    def _copy(folder):
        return shutil.copytree(
            folder, tmp_path_factory.mktemp("fresh") / "copy", symlinks=True
        )

    return _copy


@pytest.fixture(scope="session")
def fork_commands(repository):
    """Run commands in a folder; return the exit status and the stderr of each.

    Each runs in a fork of a process that has imported everything already.
    """

    def run(commands, folder):
        program = repository / "tests" / "faults" / "fork_commands.py"
        result = subprocess.run(
            [sys.executable, str(program), str(repository), str(folder)],
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run
