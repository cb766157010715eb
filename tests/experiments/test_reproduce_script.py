"""The command that makes the papers' tables: all of them, on digits."""

import csv
import json
import math
import os
import subprocess
import sys

import pytest

from advgan_jax.evaluation.rows import THREAT_MODELS
from advgan_jax.runs.papers.reproduce import TABLES


@pytest.fixture
def run(repository, tmp_path):
    script = str(repository / "experiments" / "reproduce.py")

    def run(*arguments):
        command = [sys.executable, script, f"--workdir={tmp_path / 'run'}"]
        return subprocess.run(
            [*command, *arguments],
            # Nine tenths of the time are the compiler's, for programs that run once.
            env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            capture_output=True,
            text=True,
            timeout=900,
        )

    return run


def _lines(made, table):
    path = made / "tables" / f"table-{table}.csv"
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_makes_all_tables_and_then_repeats_nothing(run, get_config, tmp_path):
    smoke = get_config("reproduce")
    result = run("--table=all", "--scale=smoke")
    assert result.returncode == 0, result.stderr
    made, names = tmp_path / "run", {f"table-{name}" for name in TABLES}
    assert {path.stem for path in (made / "tables").glob("*.csv")} == names
    assert {path.stem for path in (made / "figures").glob("*.png")} == names
    assert {path.stem for path in (made / "tables").glob("*.json")} == names
    for name, make in TABLES.items():
        (table,) = make(smoke)
        columns = table.rows[0].entries
        numbers = [float(line[c]) for line in _lines(made, name) for c in columns]
        assert all(map(math.isfinite, numbers)), name
    accuracy = [float(line["accuracy"]) for line in _lines(made, "challenge")]
    assert min(accuracy) < 0.1 < 0.5 < accuracy[0]  # accurate without attacks only
    results = json.loads((made / "results.json").read_text(encoding="utf8"))["rows"]
    assert {row["attack"] for row in results} == {
        *("fgsm", "opt", "lbfgs", "transfer", "pgd", "pgd100"),
        *("advgan", "advgan-fitted", "aigan", None),
    }
    named = {row["threat_model"] for row in results} - {None}
    assert named == {*THREAT_MODELS} - {"black-box"}
    rows = sorted((made / "rows").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in rows]
    again = run("--table=all", "--scale=smoke", "--resume")
    assert again.returncode == 0, again.stderr
    assert sorted((made / "rows").glob("*.json")) == rows
    assert [path.stat().st_mtime_ns for path in rows] == before
