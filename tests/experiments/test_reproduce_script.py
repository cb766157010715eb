"""The papers' tables as a command: all of them, from nothing, on digits."""

import os
import subprocess
import sys

import pytest

from advgan_jax.runs.reproduce import TABLES


@pytest.fixture
def run(repository, tmp_path):
    script = str(repository / "experiments" / "reproduce.py")

    def run(*arguments):
        command = [sys.executable, script, f"--workdir={tmp_path / 'run'}"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=1200
        )

    return run


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(
    "LONG_TESTS" not in os.environ, reason="Takes minutes; set LONG_TESTS=1."
)
def test_makes_all_tables_and_then_repeats_nothing(run, tmp_path):
    result = run("--table=all", "--scale=smoke")
    assert result.returncode == 0, result.stderr
    names = {f"table-{name}" for name in TABLES}
    assert {path.stem for path in (tmp_path / "run" / "tables").glob("*.csv")} == names
    assert {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")} == names
    rows = sorted((tmp_path / "run" / "rows").rglob("*.json"))
    before = [path.stat().st_mtime_ns for path in rows]
    again = run("--table=all", "--scale=smoke", "--resume")
    assert again.returncode == 0, again.stderr
    assert [path.stat().st_mtime_ns for path in rows] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale=large"], "invalid choice: 'large'"),
        (["--scale=smoke", "--table=5"], "Unknown table '5'"),
    ],
)
def test_refuses(run, tmp_path, arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()
