"""`metrics.jsonl`, TensorBoard events and `results.json`."""

import contextlib
import errno
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from advgan_jax.evaluation import ROW_KEYS
from advgan_jax.reporting import MetricsLog, logs, read_metrics, write_results

ROW = dict.fromkeys(ROW_KEYS)


def lines(workdir):
    return (workdir / "metrics.jsonl").read_text().splitlines()


def events(workdir):
    """Scalars `(step, tag, value)`, and steps from which older ones are hidden."""
    scalars, purged = [], []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # length (8), its checksum (4), record, its checksum (4)
            size = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            scalars += [
                (event.step, v.tag, v.simple_value) for v in event.summary.value
            ]
            if event.HasField("session_log"):
                purged.append(event.step)
    return scalars, purged


def test_each_line_is_on_disk_at_once(tmp_path):
    with MetricsLog(tmp_path / "run") as log:
        log.write(10, {"loss": 0.5, "rate": jnp.float32(0.25)})
        assert lines(tmp_path / "run") == ['{"step": 10, "loss": 0.5, "rate": 0.25}']
        log.write(20, {"loss": float("nan")})
        assert read_metrics(tmp_path / "run") == [
            {"step": 10, "loss": 0.5, "rate": 0.25},
            {"step": 20, "loss": None},
        ]
    scalars, _ = events(tmp_path / "run")
    assert scalars[:2] == [(10, "loss", 0.5), (10, "rate", 0.25)]


def test_resuming_takes_back_what_came_after_the_checkpoint(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": step / 8})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    with MetricsLog(tmp_path, restored_step=2) as log:
        assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
        log.write(3, {"loss": 9.0})
    assert [row["loss"] for row in read_metrics(tmp_path)] == [0.125, 0.25, 9.0]
    assert 3 in events(tmp_path)[1]


def test_a_new_run_begins_a_new_log(tmp_path):
    for value in (1.0, 2.0):
        with MetricsLog(tmp_path) as log:
            log.write(0, {"loss": value})
    assert lines(tmp_path) == ['{"step": 0, "loss": 2.0}']


def test_a_link_that_replaces_the_log_is_not_followed(tmp_path, monkeypatch):
    """Between the writing of the new log and its opening."""
    (tmp_path / "theirs").write_text("keep")

    @contextlib.contextmanager
    def swapping(path):
        yield tmp_path / "unused"
        path.symlink_to(tmp_path / "theirs")

    monkeypatch.setattr(logs, "replacing", swapping)
    with pytest.raises(OSError, match="metrics"), MetricsLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
    assert (tmp_path / "theirs").read_text() == "keep"


def test_text_in_another_encoding_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\xff\n')
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl must be .*move the file away"
    ):
        read_metrics(tmp_path)


def test_a_full_disk_names_the_log(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "full")

    with MetricsLog(tmp_path) as log, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"metrics\.jsonl cannot be written"):
            log.write(1, {"loss": 1.0})


def test_logs_that_are_not_ours(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"epoch": 2}\n')
    with pytest.raises(ValueError, match=r"line 2 is '\{\"epoch\": 2\}.*move the file"):
        MetricsLog(tmp_path, restored_step=1)
    assert len(lines(tmp_path)) == 2
    with (
        MetricsLog(tmp_path) as log,
        pytest.raises(ValueError, match="called 'step'"),
    ):
        log.write(1, {"step": 1.0})
    assert read_metrics(tmp_path / "nowhere") == []


def test_results(tmp_path):
    path = write_results(tmp_path, [ROW], {"epsilon": 0.3, "widths": (8, 16)})
    results = json.loads(path.read_text())
    assert path.name == "results.json"
    assert list(results) == ["rows", "config", "command", "versions", "device"]
    assert results["rows"] == [ROW]
    assert results["config"] == {"epsilon": 0.3, "widths": [8, 16]}
    assert str(tmp_path) not in path.read_text()


def test_results_have_the_contract_fields(tmp_path):
    with pytest.raises(ValueError, match=r"row 1 differs in \['extra'\]"):
        write_results(tmp_path, [ROW, {**ROW, "extra": 1}], {})
    with pytest.raises(ValueError, match="differs in another order"):
        write_results(tmp_path, [dict(reversed(ROW.items()))], {})
    assert not list(tmp_path.iterdir())


def test_a_run_starts_without_slow_imports(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('PyTorch was imported')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from advgan_jax import reporting, runs\n"
        "with reporting.MetricsLog(sys.argv[1]) as log:\n"
        "    log.write(1, {'loss': 0.5})\n"
        "assert not {'torch', 'matplotlib', 'scipy.stats'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]
