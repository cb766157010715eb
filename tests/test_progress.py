"""Progress without a terminal: a line every half minute, with step, rate and time."""

import io
import sys
import threading

import pytest

from advgan_jax import progress as module
from advgan_jax.progress import Lines, progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_line_has_the_step_the_rate_and_the_time_left():
    clock = Clock()
    lines = Lines(1000, "training", "img", initial=100, per_step=64, clock=clock)
    clock.now += 30
    lines.update(50)
    lines.update(10)
    # 2 steps a second, of 64 images; 840 steps are left.
    expected = "training: step 160 of 1,000 (16.0 %), 128 img/s, 7 min left"
    assert lines.line() == expected
    clock.now += 30
    lines.update(240)  # the rate is that of the last half minute
    assert lines.line().endswith("step 400 of 1,000 (40.0 %), 512 img/s, 75 s left")
    clock.now += 31
    assert lines.line().endswith("400 of 1,000 (40.0 %), no step in 31 s")
    clock.now += 29
    lines.update(6)  # in the minute since the last line with a rate
    assert lines.line().endswith("6.4 img/s, 1 h 39 min left")


def test_images_are_no_steps():
    clock = Clock()
    lines = Lines(10, "attack", "img", clock=clock)
    clock.now += 2
    lines.update(1)
    assert lines.line() == "attack: 1 of 10 (10.0 %), 0.5 img/s, 18 s left"


class File(io.StringIO):
    """Counts lines, and wakes those who wait for some."""

    def __init__(self):
        super().__init__()
        self.lines = threading.Semaphore(0)

    def flush(self):
        self.lines.release()


@pytest.fixture
def record(monkeypatch):
    """Return what is written to the standard error while lines are soon due.

    A function, because pytest replaces the standard error between fixtures and tests.
    """

    def start():
        file = File()
        monkeypatch.setattr(sys, "stderr", file)
        monkeypatch.setattr(module, "SECONDS", 0.01)
        monkeypatch.setattr(module, "_GRACE", 0.01)
        return file

    return start


def test_lines_come_while_a_step_takes_long_and_end_with_the_block(record):
    written = record()
    before = threading.active_count()
    with progress(10, "training") as update:
        update(1)
        for _ in range(3):  # though nothing calls `update`
            assert written.lines.acquire(timeout=60)
    assert threading.active_count() == before
    lines = written.getvalue().splitlines()
    assert len(lines) >= 3
    assert lines[-1].startswith("training: 1 of 10 (10.0 %)")


def test_short_pieces_of_work_share_one_interval(record, monkeypatch):
    written = record()
    monkeypatch.setattr(module, "SECONDS", 3600)
    for _ in range(3):
        with progress(1, "attack") as update:
            update(1)
    assert written.getvalue() == ""
    monkeypatch.setattr(module, "_last", [module._last[0] - 3601])
    with progress(1, "attack") as update:
        update(1)
        assert written.lines.acquire(timeout=60)
    assert written.getvalue().count("\n") == 1


def test_nothing_is_shown_unless_wanted(record):
    written = record()
    with progress(10, "training", shown=False) as update:
        update(10)
        assert not written.lines.acquire(timeout=0.2)
    assert written.getvalue() == ""


def test_terminals_have_a_bar(monkeypatch):
    file = io.StringIO()
    file.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", file)
    with progress(10, "training", initial=5, per_step=64) as update:
        update(5, "robust=1 %")
    assert "training: 100%" in file.getvalue()
    assert "640/640" in file.getvalue()
    assert "robust=1 %" in file.getvalue()
