"""A folder is locked for one run, and released however that run ends."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from advgan_jax.parallel import LOCK, locked, locks

# Another process that locks a folder; it needs no JAX.
HOLDER = """
    import fcntl, sys, time
    file = open(sys.argv[1], "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    print("process 7 on elsewhere", file=file, flush=True)
    print("locked", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def other_process(folder):
    folder.mkdir(exist_ok=True)
    code = "\n".join(line[4:] for line in HOLDER.splitlines())
    command = [sys.executable, "-S", "-c", code, str(folder / LOCK)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_locked_folder_is_refused_and_its_holder_named(tmp_path):
    with (
        other_process(tmp_path),
        pytest.raises(ValueError, match="in use by process 7 on elsewhere; wait until"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):  # a killed process holds no lock
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    assert not list(tmp_path.iterdir())


def test_waits_for_a_shared_folder_and_says_for_whom(tmp_path, caplog):
    with other_process(tmp_path) as process:
        threading.Timer(1.7, process.kill).start()
        start = time.monotonic()
        with locked(tmp_path, wait=True):
            assert time.monotonic() - start > 1.5
    (record,) = caplog.records
    assert (
        record.message == f"Waiting for process 7 on elsewhere, which uses {tmp_path}."
    )


def test_a_thread_locks_a_folder_once_and_other_threads_do_not(tmp_path):
    refused = []

    def other():
        try:
            with locked(tmp_path):
                pass
        except ValueError as error:
            refused.append(str(error))

    with locked(tmp_path), locked(str(tmp_path)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"in use by process {os.getpid()} on" in refused[0]
    other()
    assert len(refused) == 1


def test_a_folder_made_for_a_lock_goes_if_nothing_was_written(tmp_path):
    new = tmp_path / "a" / "b"
    with locked(new):
        assert new.is_dir()
    assert not list(tmp_path.iterdir())
    with locked(new):
        (new.parent / "kept").touch()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "kept"]


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / LOCK).symlink_to(tmp_path / "victim")
    message = r"\.lock must be a run's lock, got a symbolic link.*delete it"
    with pytest.raises(ValueError, match=message), locked(tmp_path):
        pass
    assert (tmp_path / "victim").read_text() == "kept"


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise OSError(errno.EROFS, "read-only", str(path))

    monkeypatch.setattr(locks.os, "open", refuse)
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reason", ["no fcntl", "no locks"])
def test_a_system_without_locks_is_named(tmp_path, monkeypatch, caplog, reason):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    if reason == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    else:
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())
    assert "start no second run there" in caplog.text
