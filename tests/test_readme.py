"""What README and the pages of docs/ say works: snippets run, links lead somewhere."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import matplotlib as mpl
import pytest

import advgan_jax
from advgan_jax import attacks
from advgan_jax.trainers import defaults

mpl.use("Agg")

REPOSITORY = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    [
        path.relative_to(REPOSITORY).as_posix()
        for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"))
        if "_build" not in path.parts
    ]
)


# Least epochs and steps of a training. The defaults run in trainers/test_defaults.py.
FEW = (2, 40)
FEWER_STEPS = f"from advgan_jax.trainers import defaults; defaults._ADVGAN = {FEW}"


def read(page):
    return (REPOSITORY / page).read_text(encoding="utf8")


def snippets_of(page):
    return re.findall(r"```python\n(.*?)```", read(page), flags=re.DOTALL)


def run_snippets(page):
    """Run all snippets of a page in order, as one program."""
    names = {}
    for snippet in snippets_of(page):
        exec(compile(snippet, page, "exec"), names)
    return names


@pytest.mark.slow
def test_readme_snippets_run_in_order(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished[0], tmp_path / "runs" / "advgan-digits-small")
    monkeypatch.setattr(defaults, "_ADVGAN", FEW)
    monkeypatch.chdir(tmp_path)
    assert len(snippets_of("README.md")) >= 3
    names = run_snippets("README.md")
    promised = ", ".join(re.findall(r"It prints `(.*?)`", read("README.md")))
    numbers = [
        [float(number) for number in re.findall(r"([\d.]+)%", text)]
        for text in (promised, capsys.readouterr().out)
    ]
    # Other processors round otherwise, which moves an image or two of 360.
    assert numbers[0] == pytest.approx(numbers[1], abs=2)
    assert names["adversarial"].shape == (360, 8, 8, 1)
    assert names["result"].success().rate >= 0.97
    names["black_box"](names["test"].images[:7])
    assert names["black_box"].queries == 7


@pytest.mark.slow
@pytest.mark.optimised
def test_black_box_example_succeeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_snippets("docs/black-box.md")
    assert names["oracle"].queries == 437
    assert names["success"] > 0.6


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        p
        for p in PAGES
        if p not in ("README.md", "docs/black-box.md") and snippets_of(p)
    ],
)
def test_snippets_of_a_page_run(page, tmp_path):
    """In a process of its own, because some change the settings of their process."""
    for name in ("torch", "equinox", "haiku", "keras"):
        used = re.search(rf"^import {name}$", read(page), re.MULTILINE)
        if used and not importlib.util.find_spec(name):
            pytest.skip(f"{name} is not installed")
    code = "\n".join((FEWER_STEPS, *snippets_of(page)))
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)", read(page))
    local = [target for target in targets if "://" not in target]
    folder = (REPOSITORY / page).parent
    assert [target for target in local if not (folder / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_real_files(page):
    named = re.findall(
        r"(?<![\w/])(?:configs|experiments|benchmarks|advgan_jax)/[\w./-]+[a-z]\.py",
        read(page),
    )
    if page == "README.md":
        assert {"configs/advgan.py", "experiments/train.py"} <= set(named)
    # The changelog may name what is gone.
    if page != "CHANGELOG.md":
        assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_commands_have_folders_of_their_own():
    """Of two in one folder the second is rejected."""
    pages = map(read, ("README.md", "docs/defences-and-tables.md"))
    blocks = "\n".join(
        block
        for page in pages
        for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    )
    train = r"(?:experiments/train\.py|advgan-jax train) (.*)"
    commands = re.findall(train, blocks.replace("\\\n", ""))
    folders = [
        re.search(r"--workdir=(\S+)", command) or re.search(r"--config=(\S+)", command)
        for command in commands
    ]
    assert len(folders) >= 3
    assert len({folder[1] for folder in folders}) == len(folders)


def test_readme_is_short():
    assert len(read("README.md").split()) <= 900


def test_test_command_is_that_of_ci():
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf8")
    install, test = re.search(
        r"python -m (pip install -e '\.\[test\]') && (python -m pytest.*)",
        read("README.md"),
    ).groups()
    assert install.removeprefix("pip install ") in script
    assert test in script


def test_version_is_the_same_everywhere():
    citation, changelog = read("CITATION.cff"), read("CHANGELOG.md")
    version, date = re.search(r"## \[(\d[\d.]+)\] - (\S+)", changelog).groups()
    assert version == advgan_jax.__version__
    assert f"version: {version}\ndate-released: {date}\n" in citation


def test_files_that_contributing_names_exist():
    text = read("CONTRIBUTING.md")
    named = re.findall(
        r"`((?:advgan_jax|tests|experiments|docs|configs)/[\w./]*)`", text
    )
    assert len(named) >= 15
    assert [
        name
        for name in named
        if "NAME" not in name and not (REPOSITORY / name).exists()
    ] == []


def test_page_on_attacks_lists_all_of_them():
    rows = re.findall(r"^\| (`.*?) \|", read("docs/attacks.md"), flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(attacks.ATTACKS)
