"""The training command of the README, in its own process."""

import json
import signal
import subprocess
import sys
import time

import pytest

SHORT = [
    "--config.target_training.num_epochs=3",
    "--config.training.num_epochs=1",
    "--config.target_model=fc10",
    "--config.generator.widths=(4,4,4)",
    "--config.generator.num_residual=0",
    "--config.discriminator.widths=(4,)",
    "--config.evaluation.num_images=60",
]


@pytest.fixture
def command(repository, tmp_path):
    """The command, and where it runs."""
    script = str(repository / "experiments" / "train.py")
    config = f"--config={repository / 'configs' / 'advgan.py'}"
    return [sys.executable, script, config, f"--workdir={tmp_path / 'run'}"]


def run(command, *arguments):
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_a_signal_saves_and_a_whole_run_prints_the_table_last(command, tmp_path):
    arguments = [*SHORT, "--config.training.num_epochs=400"]
    process = subprocess.Popen(
        [*command, *arguments], stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Add --resume to resume." in errors
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    saved = {int(p.name) for p in (tmp_path / "run" / "checkpoints").glob("[0-9]*")}
    assert steps[-1] in saved

    other = run(command, *SHORT, "--resume")
    assert other.returncode == 2
    assert "training.num_epochs is 400 there and 1 here" in other.stderr
    whole = run(command, *SHORT, "--overwrite")
    assert whole.returncode == 0, whole.stderr
    again = run(command, *SHORT, "--resume")
    assert again.returncode == 0, again.stderr
    header, rule, row = whole.stdout.rstrip().splitlines()[-3:]
    assert header.split()[:2] == ["dataset", "model"]
    assert set(rule) == {"-", " "}
    assert row.split()[:3] == ["digits", "fc10", "advgan"]
