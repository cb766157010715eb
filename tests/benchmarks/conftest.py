"""The benchmarks' modules, for tests that import one."""

import pytest


@pytest.fixture
def benchmarks(repository, monkeypatch):
    """Makes the modules of benchmarks known, and those of experiments that they use."""
    for folder in ("experiments", "benchmarks"):
        monkeypatch.syspath_prepend(str(repository / folder))
