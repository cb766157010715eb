"""The error message of the command line when a black box fails."""

import subprocess
import sys
import textwrap

import pytest

# Flags are global to a process, so this has its own; the run is replaced.
FAILING = """
    import sys
    import numpy as np
    from advgan_jax import runs
    from advgan_jax.cli import main
    from advgan_jax.oracles import Oracle

    def model(images):
        raise ConnectionError("line is down")

    def train(*args, **options):
        ask = Oracle(model, answers="labels", num_classes=2)
        ask(np.zeros((3, 2, 2, 1), np.float32))

    runs.train = train
    main.run("train", sys.argv[1:])
"""


@pytest.mark.slow
def test_failing_black_box_is_one_clear_error(repository, tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(FAILING),
            f"--config={repository / 'configs' / 'advgan_blackbox.py'}",
            f"--workdir={tmp_path / 'run'}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "error:" in line]
    assert line.startswith("error: The model failed on batch 0 (3 images): it raised")
    assert "ConnectionError('line is down')" in line
    assert "Traceback" not in result.stderr
