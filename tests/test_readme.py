"""What the README says works: its snippets run, its commands name real files."""

import re
import shutil

import matplotlib as mpl
import pytest

mpl.use("Agg")


@pytest.fixture(scope="module")
def readme(repository):
    return (repository / "README.md").read_text(encoding="utf8")


def test_snippets_run_in_order(readme, finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished[0], tmp_path / "runs" / "advgan-digits-small")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(snippets) >= 3
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["adversarial"].shape == (8, 8, 8, 1)
    assert "Success(" in capsys.readouterr().out
    assert names["oracle"].queries == 437
    assert names["fooled"] > 0.6


def test_commands_name_real_files(readme, repository):
    named = re.findall(r"(?:configs|experiments|benchmarks|docs)/[\w./-]+\w", readme)
    assert {"configs/advgan.py", "experiments/train.py"} <= set(named)
    assert [name for name in named if not (repository / name).exists()] == []


def test_commands_have_folders_of_their_own(readme):
    """Of two in one folder the second is refused."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", readme, flags=re.DOTALL))
    commands = re.findall(r"experiments/train\.py (.*)", blocks.replace("\\\n", ""))
    folders = [
        re.search(r"--workdir=(\S+)", command) or re.search(r"--config=(\S+)", command)
        for command in commands
    ]
    assert len(folders) >= 3
    assert len({folder[1] for folder in folders}) == len(folders)


def test_test_command_is_that_of_ci(readme, repository):
    script = (repository / ".ci" / "run").read_text(encoding="utf8")
    install, test = re.search(
        r"python -m (pip install -e '\.\[test\]') && (python -m pytest.*)", readme
    ).groups()
    assert install.removeprefix("pip install ") in script
    assert script.count(test) == 1
