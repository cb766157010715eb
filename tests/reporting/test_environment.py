"""Versions and device, and whose git hash it is."""

import platform
import re
import socket
import subprocess
import sys

import jax
import pytest

from advgan_jax.reporting import command_line, device_name, versions
from advgan_jax.reporting.environment import _git_hash


def git(folder, *arguments):
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(("git", *settings, *arguments), cwd=folder, check=True)


def test_versions():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["jax"] == jax.__version__
    assert list(found) == [
        "python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
        "advgan_jax", "git",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["/venv/bin/advgan-jax", "train", "--a=b c"], "advgan-jax train '--a=b c'"),
        (["experiments/train.py", "--a"], "python experiments/train.py --a"),
        (["-m", "advgan_jax", "train"], "python -m advgan_jax train"),
    ],
)
def test_a_command_can_be_repeated_elsewhere(monkeypatch, given, expected):
    monkeypatch.setattr(sys, "orig_argv", ["/venv/bin/python", *given])
    assert command_line() == expected


def test_hash_only_of_a_checkout_that_has_our_files(tmp_path):
    assert _git_hash(tmp_path) is None
    package = tmp_path / "lib" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "other").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "--quiet", "-m", "other")
    assert _git_hash(package) is None
    git(tmp_path, "add", "lib")
    git(tmp_path, "commit", "--quiet", "-m", "ours")
    clean = _git_hash(package)
    assert 7 <= len(clean) <= 12
    (package / "__init__.py").write_text("changed")
    assert _git_hash(package) == f"{clean}-dirty"


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versions()["git"] is None


def test_device_name_tells_the_device_and_no_more():
    name = device_name()
    assert name.startswith(jax.devices()[0].platform)
    assert re.fullmatch(r".+, (1 CPU core|\d+ CPU cores)", name)
    assert socket.gethostname() not in name
