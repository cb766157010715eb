"""The command that compares attacks."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.optimised


@pytest.fixture
def run(repository, tmp_path):
    script = str(repository / "experiments" / "attack.py")
    config = f"--config={repository / 'configs' / 'attacks.py'}"

    def run(*arguments):
        command = [sys.executable, script, config, f"--workdir={tmp_path / 'run'}"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300
        )

    return run


@pytest.mark.slow
def test_prints_a_row_for_each_attack(run, tmp_path):
    result = run(
        "--config.names=('fgsm','bim')",
        "--config.attacks.bim.num_steps=3",
        "--config.target_training.num_epochs=3",
        "--config.evaluation.num_images=60",
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.rstrip().splitlines()[-3:]
    assert [line.split()[2] for line in lines] == ["fgsm", "bim", "ensemble"]
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert [row["attack"] for row in rows] == ["fgsm", "bim", "ensemble"]
