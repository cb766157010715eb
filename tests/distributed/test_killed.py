"""Runs that are killed at random moments resume to the same bits."""

import json
import os
import signal
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from advgan_jax import runs
from advgan_jax.reporting import read_metrics

# Starting many processes takes long on a busy machine.
pytestmark = [pytest.mark.multi_device, pytest.mark.slow, pytest.mark.timeout(1800)]

# After so many seconds the runtime misses a process whose connections stay open. The
# other processes end somewhat later on a busy machine.
HEARTBEAT = 20
BOUND = HEARTBEAT + 60
LONG = pytest.mark.skipif(
    "LONG_TESTS" not in os.environ,
    reason="Twenty kills take several minutes; set LONG_TESTS=1.",
)


def outcome(workdir, digits):
    """The weights and the log of a finished run."""
    saved = json.loads((workdir / "config.json").read_text())
    config = ConfigDict({k: v for k, v in saved.items() if k != "advgan_jax"})
    logits_fn = runs.methods.target_model.trained_logits_fn(
        runs.Run(config, workdir, digits)
    )
    (folder,) = (workdir / "target_models").iterdir()
    return jax.tree.leaves(logits_fn), read_metrics(folder)


def progress(workdir):
    """The number of lines in the log of a run."""
    paths = list(workdir.glob("target_models/*/metrics.jsonl"))
    return paths[0].read_text().count("\n") if paths else 0


def wait_for_progress(programs, workdir):
    before, deadline = progress(workdir), time.monotonic() + 240
    # A resumed run first shortens its log to the step of its checkpoint.
    while programs.running() and progress(workdir) <= before:
        assert time.monotonic() < deadline, programs.output()
        time.sleep(0.01)


# tests/faults/test_interrupted.py kills a single process.
@pytest.mark.parametrize(
    ("processes", "kills"),
    [(2, 2), pytest.param(1, 20, marks=LONG), pytest.param(2, 20, marks=LONG)],
)
def test_ends_with_the_same_bits(start_run, tmp_path, digits, processes, kills):
    random = np.random.default_rng(kills + processes)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    flags = (f"--config.target_training.num_epochs={20 + 10 * kills // processes}",)
    impatient = (f"--heartbeat={HEARTBEAT}",)
    alive = 0
    for number in range(kills):
        programs = start_run(killed, *flags, *impatient, processes=processes)
        trains = number % 4 < 3
        if trains:
            wait_for_progress(programs, killed)
            time.sleep(random.uniform(0, 0.5))
        else:
            time.sleep(random.uniform(0, 5))
        alive += programs.running()
        programs.processes[random.integers(processes)].kill()
        if not trains:
            # A process waits for minutes until the others start, so end it here.
            programs.kill()
        # A process that trains ends by itself when it loses another one.
        programs.codes(timeout=BOUND)
    assert alive > kills / 2
    for workdir in (killed, whole):
        programs = start_run(workdir, *flags, processes=processes)
        codes = programs.codes(timeout=400)
        assert not any(codes), programs.output()
    (weights, log), (wanted_weights, wanted_log) = (
        outcome(workdir, digits) for workdir in (killed, whole)
    )
    assert log == wanted_log
    for found, wanted in zip(weights, wanted_weights, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("lost", [0, 1])
def test_other_processes_report_a_lost_one_in_time(start_run, tmp_path, lost):
    flags = ("--config.target_training.num_epochs=100000", f"--heartbeat={HEARTBEAT}")
    programs = start_run(tmp_path, *flags, processes=2)
    wait_for_progress(programs, tmp_path)
    assert programs.running(), programs.output()
    programs.processes[lost].kill()
    codes = programs.codes(timeout=BOUND)
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] not in (0, -signal.SIGKILL)
    output = programs.output()
    assert "cannot reach the others" in output or "another task died" in output


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_stops_all_at_one_step(start_run, tmp_path, signalled):
    programs = start_run(
        tmp_path, "--config.target_training.num_epochs=100000", processes=2
    )
    wait_for_progress(programs, tmp_path)
    programs.processes[signalled].send_signal(signal.SIGTERM)
    assert programs.codes(timeout=120) == [130, 130], programs.output()
    stops = [
        line for line in programs.output().splitlines() if line.startswith("Stopped at")
    ]
    assert len(stops) == 2
    assert stops[0] == stops[1]
    step = int(stops[0].split()[3])
    (folder,) = (tmp_path / "target_models").iterdir()
    assert (folder / "checkpoints" / str(step)).is_dir()
    assert read_metrics(folder)[-1]["step"] == step
