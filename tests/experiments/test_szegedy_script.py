"""The command that runs the studies."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.optimised


@pytest.fixture
def run(repository, tmp_path):
    script = str(repository / "experiments" / "szegedy.py")

    def run(*arguments):
        command = [sys.executable, script, f"--workdir={tmp_path / 'run'}"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300
        )

    return run


@pytest.mark.slow
def test_runs_a_study(run, tmp_path):
    result = run(
        "--study=distortion",
        "--scale=smoke",
        "--config.models=('fc10_1e4',)",
        "--config.attack=deepfool",
        "--config.random_targets=False",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().splitlines()[-1].split()[1] == "fc10_1e4"
    assert (tmp_path / "run" / "tables" / "distortion.csv").exists()
    assert (tmp_path / "run" / "figures" / "distortion.png").exists()
