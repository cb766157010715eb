"""Rivals in processes of their own: who takes part, and that all of them end."""

import subprocess

import pytest
from absl import flags

OBEDIENT = """
import sys
print("0.5\\nready", flush=True)
for _ in sys.stdin:
    print("done", flush=True)
"""


@pytest.fixture
def contender(benchmarks):
    import _contender

    return _contender


@pytest.fixture
def processes(contender, monkeypatch):
    """All that are started."""
    found = []

    class Remembered(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            found.append(self)

    monkeypatch.setattr(contender.subprocess, "Popen", Remembered)
    return found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit(3)", "other.py ended with 3"),
        ("print('ready', flush=True); raise SystemExit(4)", "other.py ended with 4"),
    ],
    ids=["before it is ready", "later"],
)
def test_one_that_fails_is_named_and_the_others_end(
    contender, processes, tmp_path, text, message
):
    scripts = {"first": tmp_path / "first.py", "other": tmp_path / "other.py"}
    scripts["first"].write_text(OBEDIENT)
    scripts["other"].write_text(text)
    plans = {name: (path, {}, {}) for name, path in scripts.items()}

    def turns():
        with contender.started(plans) as found:
            assert found["first"].startup_lines == ["0.5\n"]
            for one in found.values():
                one()

    with pytest.raises(RuntimeError, match=message):
        turns()
    assert len(processes) == 2
    assert all(process.returncode is not None for process in processes)


@pytest.mark.usefixtures("benchmarks")
def test_ours_has_all_devices_where_that_is_worth_it(monkeypatch):
    import generation

    monkeypatch.setattr(generation._measure, "num_devices", lambda: 4)
    flags.FLAGS.mark_as_parsed()
    many, few = (generation.contenders(size, 1000) for size in (64, 63))
    rivals = ["PyTorch", "PyTorch, memory kept"]
    ours = ["advgan_jax", "advgan_jax, one device", "advgan_jax, bfloat16"]
    assert list(many) == ours + rivals
    assert [many[name][1]["cut"] for name in ours] == [4, 1, 4]
    assert list(few) == [ours[0], ours[2], *rivals]
    assert few[ours[0]][1]["cut"] == 1
    assert many[ours[2]][1]["dtype"] == "bfloat16"
