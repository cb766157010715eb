"""The benchmarks as commands, at tiny sizes; what needs PyTorch is not run here."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def run(repository):
    def run(script, *arguments):
        command = [sys.executable, str(repository / "benchmarks" / script)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=500
        )

    return run


@pytest.fixture
def module(repository):
    """`run.py` as a module."""
    path = repository / "benchmarks" / "run.py"
    spec = importlib.util.spec_from_file_location("run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_part_runs_and_fills_the_table(run, tmp_path):
    out = tmp_path / "cpu.json"
    result = run("run.py", "--only=generation", "--smoke", "--rivals=", f"--out={out}")
    assert result.returncode == 0, result.stderr
    found = json.loads(out.read_text())
    assert found["failed"] == []
    environment = found["parts"]["generation"]["environment"]
    assert environment["smoke"] is True
    assert environment["versions"]["jax"]
    (first, *_) = found["figures"]
    assert first["figure"] == "generate 20 images"
    assert first["ours"] > 0
    assert "generate 20 images" in result.stdout


WORKS = """
import json, pathlib, sys
out = next(a for a in sys.argv if a.startswith("--out=")).removeprefix("--out=")
figure = {"figure": "generate 1000 images", "rival": "PyTorch", "ours": 3.0, "ratio": 2}
found = {"environment": {}, "rows": [], "figures": [figure | {"unit": "images/s"}]}
pathlib.Path(out).write_text(json.dumps(found))
"""


def test_a_part_that_fails_is_named_and_the_others_are_kept(repository, tmp_path):
    """The true command over two parts that take no time."""
    for name in ("run.py", "_measure.py"):
        shutil.copy(repository / "benchmarks" / name, tmp_path)
    (tmp_path / "generation.py").write_text(WORKS)
    (tmp_path / "growth.py").write_text("raise SystemExit(3)")
    out = tmp_path / "cpu.json"
    command = [sys.executable, str(tmp_path / "run.py"), "--only=growth,generation"]
    result = subprocess.run(
        [*command, "--smoke", f"--out={out}"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("FAILED: growth")
    assert "growth FAILED with exit status 3" in result.stdout
    assert "generate 1000 images" in result.stdout
    found = json.loads(out.read_text())
    assert found["failed"] == ["growth"]
    assert found["parts"]["growth"] is None
    (figure,) = found["figures"]
    assert (figure["ours"], figure["verdict"]) == (3.0, "met")


@pytest.mark.slow
def test_growth_draws_its_lines(run, tmp_path):
    picture = tmp_path / "growth.png"
    result = run("growth.py", "--only=images", "--smoke", f"--plot={picture}")
    assert result.returncode == 0, result.stderr
    assert picture.stat().st_size > 0
    sizes = [line.split()[3] for line in result.stdout.splitlines()[1:]]
    assert sizes == ["4", "8"]


@pytest.mark.slow
def test_roofline_counts_the_turns_of_loops(run, tmp_path):
    out = tmp_path / "roofline.json"
    result = run("roofline.py", "--only=classifier,pgd", "--smoke", f"--out={out}")
    assert result.returncode == 0, result.stderr
    step, attack = json.loads(out.read_text())["rows"]
    assert step["GFLOP"] > 0
    # A step of the attack lacks but the gradients of kernels, about a third.
    assert 10 < attack["GFLOP"] / step["GFLOP"] < 40


@pytest.mark.slow
def test_convolutions_are_timed_forwards_and_backwards(run, tmp_path):
    out = tmp_path / "convolutions.json"
    result = run("convolutions.py", "--smoke", "--model=A", f"--out={out}")
    assert result.returncode == 0, result.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 2 * 3 + 1
    assert rows[-1]["benchmark"] == "model A step, batch 4"
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.usefixtures("benchmarks")
def test_growth_tells_how_far_times_lie_from_their_line():
    import growth

    sizes = (1, 2, 4)
    assert growth.farthest(sizes, (3, 6, 12)) == pytest.approx(1)
    # Two thirds of the middle's distance from the line through the ends.
    assert growth.farthest(sizes, (1, 8, 1)) == pytest.approx(4)


def test_an_unknown_part_is_refused(run):
    result = run("run.py", "--only=rooflines")
    assert result.returncode == 2
    assert "'roofline'" in result.stderr


def test_verdicts(module):
    ratio = module.Goal("training", 1.2, 2)
    assert [ratio.verdict({"ratio": r}) for r in (None, 1.1, 1.2, 2.0)] == [
        "missed",
        "missed",
        "met",
        "aim reached",
    ]
    seconds = module.Goal("startup", 120, 45, "ours", at_most=True)
    assert [seconds.verdict({"ours": s}) for s in (121, 120, 45)] == [
        "missed",
        "met",
        "aim reached",
    ]


def test_every_part_is_a_script_and_every_goal_is_of_a_part(module):
    folder = pathlib.Path(module.__file__).parent
    for suite, parts in module.SUITES.items():
        assert all((folder / f"{part}.py").exists() for part in parts)
        assert {goal.part for goal in module.GOALS[suite].values()} <= set(parts)


def test_a_goal_that_no_figure_meets_is_told(module):
    lines = [{"figure": "generate 1000 images", "rival": "PyTorch"}]
    assert module.unmeasured("cpu", ["generation"], lines) == []
    assert module.unmeasured("cpu", ["generation", "startup"], lines) == [
        "first step, filled cache",
        "default command, empty cache",
    ]
    assert module.unmeasured("cpu", ["generation"], []) == [
        "generate 1000 images against PyTorch"
    ]


@pytest.mark.slow
def test_a_first_call_compiles_and_a_second_does_not(run, tmp_path):
    out = tmp_path / "first.json"
    result = run("first_call.py", "--smoke", f"--out={out}")
    assert result.returncode == 0, result.stderr
    empty, filled, second = (r["seconds"] for r in json.loads(out.read_text())["rows"])
    assert empty > 2 * second
    assert filled > second


@pytest.mark.usefixtures("benchmarks")
def test_the_first_call_of_every_attack_is_measured():
    import first_call

    from advgan_jax import attacks

    others = {"advgan", "aigan", "transfer"}  # need other models
    assert set(first_call.ATTACKS) == set(attacks.ATTACKS) - others
