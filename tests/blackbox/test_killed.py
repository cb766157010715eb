"""An attack on an oracle is killed at any moment: the same result, nothing twice."""

import collections
import os
import subprocess
import sys
import time

import killed_attack
import numpy as np
import pytest

from advgan_jax.oracles import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KILLS = 12 if "LONG_TESTS" in os.environ else 4  # CI kills a third as often


def asked(folder):
    """How often the model saw each image."""
    path, size = folder / "asked", killed_attack.IMAGES[0].nbytes
    pixels = path.read_bytes() if path.exists() else b""
    return collections.Counter(
        pixels[start : start + size] for start in range(0, len(pixels), size)
    )


def start(folder):
    return subprocess.Popen([sys.executable, killed_attack.__file__, str(folder)])


def test_a_killed_attack_resumes_and_sends_nothing_twice(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    killed_attack.attack(whole, pause=0)
    wanted, total = np.load(whole / "found.npz"), asked(whole).total()
    random, lost = np.random.default_rng(0), 0
    for number in range(KILLS):
        # In each part of the attack once, at any moment between two batches.
        goal = total * (number + random.uniform(0, 0.9)) / KILLS
        process = start(killed)
        while asked(killed).total() < goal:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        assert process.wait() != 0
        assert not (killed / "found.npz").exists()
        # The model saw at most one batch more whose answers were not recorded.
        before, lost = lost, asked(killed).total() - len(Ledger(killed / "ledger"))
        assert before <= lost <= before + killed_attack.BATCH
    assert start(killed).wait() == 0

    found = np.load(killed / "found.npz")
    for name in ("images", "success", "queries", "finished", "made"):
        np.testing.assert_array_equal(found[name], wanted[name])
    assert 0 < found["success"].sum() < len(found["success"])
    assert found["made"] == found["queries"].sum() == total
    assert found["sent"] == found["made"] + found["wasted"]
    # Only batches without recorded answers were sent again.
    assert not asked(whole) - asked(killed)
    assert (asked(killed) - asked(whole)).total() == lost <= found["wasted"]
