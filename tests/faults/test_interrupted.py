"""Commands that are killed, interrupted or started twice: the same bits in the end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from advgan_jax.checkpointing import Checkpoints
from advgan_jax.reporting import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SHARE = 1 if "LONG_TESTS" in os.environ else 3  # CI kills a third as often
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TRAIN = (
    *("train.py", "--config=configs/advgan.py", "--config.target_model=fc10"),
    *("--config.target_training.num_epochs=6", "--config.training.num_epochs=6"),
    *("--config.generator.widths=(4,4,4)", "--config.generator.num_residual=0"),
    *("--config.discriminator.widths=(4,)", "--config.evaluation.num_images=60"),
    "--config.training.epochs_per_checkpoint=1",
)
TABLES = (
    *("szegedy.py", "--scale=smoke", "--config.models=('fc10_1e4','fc100_100_10')"),
    *("--study=cross-model", "--config.evaluation.num_images=20"),
    "--config.attacks.lbfgs.num_search_steps=2",
)


@pytest.fixture
def start(repository, tmp_path):
    """Start a command in a folder of the test; killed at the end of the test."""
    started = []
    configs = f"--config={repository / 'configs'}"
    # The compiler takes most of the time.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def start(script, *arguments):
        rest = [a.replace("--config=configs", configs) for a in arguments]
        command = [sys.executable, str(repository / "experiments" / script), *rest]
        started.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process, timeout=600):
    """The exit status and the lines on stderr, without progress bars."""
    _, errors = process.communicate(timeout=timeout)
    lines = [line for line in re.split("[\r\n]+", errors) if line.strip()]
    return process.returncode, [line for line in lines if "img/s]" not in line]


def assert_no_traceback(status, lines):
    assert "Traceback" not in "\n".join(lines), "\n".join(lines)
    assert "Exception ignored" not in "\n".join(lines), "\n".join(lines)


def resume(workdir):
    return ["--resume"] if (workdir / "config.json").exists() else []


def kill_often(start, command, workdir, seed, kills):
    """Kill a command at varied moments, each time with another signal."""
    random, killed = np.random.default_rng(seed), 0
    begin = time.monotonic()
    status, lines = finish(start(*command, f"--workdir={workdir}-whole"))
    whole = time.monotonic() - begin
    assert status == 0, lines
    for _ in range(4 * kills):
        chosen, begin = SIGNALS[killed % len(SIGNALS)], time.monotonic()
        process = start(*command, f"--workdir={workdir}", *resume(workdir))
        time.sleep(random.uniform(0.2, whole))
        process.send_signal(chosen)
        status, lines = finish(process, timeout=120)
        assert_no_traceback(status, lines)
        # A signal may come too late, and Python's start takes it in its own way.
        assert status in (0, 130, -chosen), (chosen, lines)
        if status == 130:
            assert lines[-1].endswith("Add --resume to resume."), lines
        if status == 0:  # it was finished; kill another one, earlier
            whole = time.monotonic() - begin
            shutil.rmtree(workdir)
        killed += status != 0
        if killed == kills:
            break
    assert killed == kills
    status, lines = finish(start(*command, f"--workdir={workdir}", *resume(workdir)))
    assert status == 0, lines


def weights(workdir):
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = checkpoints.restore()
    return jax.tree.leaves(state["generator"]["params"])


def assert_same_means(found, wanted):
    """A stop within an epoch logs the steps before it in a row of their own."""
    begin = 0
    for row in wanted:
        parts = [part for part in found if begin < part["step"] <= row["step"]]
        assert parts[-1]["step"] == row["step"]
        lengths = np.diff([begin, *(part["step"] for part in parts)])
        for name in row:
            if name != "step":
                mean = np.average([part[name] for part in parts], weights=lengths)
                # Means are logged in single precision.
                np.testing.assert_allclose(mean, row[name], rtol=1e-6, err_msg=name)
        begin = row["step"]
    assert found[-1]["step"] == begin


def test_a_killed_training_ends_with_the_same_bits(start, tmp_path):
    kill_often(start, TRAIN, tmp_path / "run", seed=0, kills=12 // SHARE)
    run, whole = tmp_path / "run", tmp_path / "run-whole"
    for found, wanted in zip(weights(run), weights(whole), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert_same_means(read_metrics(run), read_metrics(whole))
    assert not list(run.rglob(".lock"))


def test_killed_tables_end_with_the_same_numbers(start, tmp_path):
    kill_often(start, TABLES, tmp_path / "run", seed=1, kills=6 // SHARE)
    found, wanted = (
        sorted((tmp_path / name / "tables").glob("*.csv"))
        for name in ("run", "run-whole")
    )
    assert [path.name for path in found] == [path.name for path in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.read_text() == other.read_text()


def test_a_signal_in_the_first_seconds_ends_the_command(start, tmp_path):
    """Python ignores an exception in a callback of the garbage collector."""
    ended = []
    # Until three signals came after the imports.
    while len(ended) < 6 or ended.count(130) < 3:
        process = start(*TRAIN, f"--workdir={tmp_path / 'run'}")
        # Python needs 20 ms before it runs the first line.
        time.sleep(0.3 + 0.4 * len(ended))
        chosen = SIGNALS[len(ended) % 2]
        process.send_signal(chosen)
        status, lines = finish(process, timeout=60)
        assert_no_traceback(status, lines)
        assert status in (130, -chosen), lines
        ended.append(status)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_two_runs_may_share_target_models(start, tmp_path):
    shared = f"--config.target_model_dir={tmp_path / 'models'}"
    longer = (shared, "--config.target_training.num_epochs=60")
    longer += ("--config.training.num_epochs=1",)
    processes = [
        start(*TRAIN, *longer, f"--workdir={tmp_path / name}") for name in "ab"
    ]
    endings = [finish(process) for process in processes]
    assert [status for status, _ in endings] == [0, 0], endings
    (model,) = (tmp_path / "models").iterdir()
    assert read_metrics(model)[-1]["step"] == 60 * (1437 // 128)
    waited = [line for _, lines in endings for line in lines if "Waiting for" in line]
    assert len(waited) == 1, endings
    pids = {process.pid for process in processes}
    assert int(re.search(r"process (\d+) on", waited[0])[1]) in pids
    for found, wanted in zip(
        weights(tmp_path / "a"), weights(tmp_path / "b"), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert not list(tmp_path.rglob(".lock"))


def test_a_second_run_in_a_workdir_is_refused(start, tmp_path):
    first = start(*TRAIN, "--config.training.num_epochs=400", "--workdir=run")
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "config.json").exists():
        assert first.poll() is None, finish(first)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.send_signal(signal.SIGSTOP)  # it keeps its lock and computes no more
    for flag in ("--resume", "--overwrite"):
        second = start(*TRAIN, "--workdir=run", flag)
        status, lines = finish(second)
        assert status == 2
        (line,) = lines
        assert f"run is in use by process {first.pid} on" in line
    first.kill()
    first.wait()
    # The lock of a dead process is taken over.
    again = start(*TRAIN, "--config.training.num_epochs=400", "--workdir=run")
    status, lines = finish(again)
    assert status == 2
    assert "holds a run already" in lines[-1]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["num_epochs"] == 400
