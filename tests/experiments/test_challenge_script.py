"""A file of adversarial images as a command: an accuracy, or what is wrong with it."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from advgan_jax.data import to_float


@pytest.fixture
def run(repository, tmp_path):
    def run(images, *arguments):
        if images is None:
            (tmp_path / "attack.npy").touch()
        else:
            np.save(tmp_path / "attack.npy", images)
        command = [
            sys.executable,
            str(repository / "experiments" / "challenge.py"),
            f"--config={repository / 'configs' / 'defence.py'}",
            f"--file={tmp_path / 'attack.npy'}",
            "--config.target_model=fc10",
            "--config.target.defence=adv",
            "--config.target.defences.adv.training.num_epochs=3",
        ]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300
        )

    return run


def test_tells_the_accuracy_on_the_file(run, digits, tmp_path):
    images = to_float(digits.test.images)
    result = run(
        np.clip(images + np.float32(0.3), 0, 1),
        f"--config.target_dir={tmp_path}",
        f"--compilation_cache={tmp_path / 'programs'}",
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "clean accuracy",
        "accuracy on the file",
        "largest perturbation",
    ]
    assert lines[2].endswith("0.300000")
    assert list((tmp_path / "programs").glob("*-cache"))


def test_names_the_first_image_that_breaks_a_rule(run, digits, tmp_path):
    images = to_float(digits.test.images).copy()
    images[4, 2, 2] = np.nan
    result = run(images, f"--config.target_dir={tmp_path}")
    assert result.returncode == 2
    assert "error: Adversarial images must be finite numbers, image 4" in result.stderr
    assert not list(tmp_path.glob("digits-*"))  # no classifier was trained for it


def test_an_empty_file_is_refused(run, tmp_path):
    result = run(None, f"--config.target_dir={tmp_path}")
    assert result.returncode == 2
    assert "attack.npy must be a whole .npy file" in result.stderr
    assert "Traceback" not in result.stderr


# Signals come when they like, so the measurement is replaced by what they raise.
ENDING = """
    import sys
    sys.path.insert(0, sys.argv.pop(1))
    ending = sys.argv.pop(1)
    import runpy
    from advgan_jax import runs
    from advgan_jax.runs import challenge

    def measure_file(*_):
        raise {
            "stopped": runs.Stopped("Stopped at step 7 of target fc10; saved."),
            "interrupted": KeyboardInterrupt(),
            "missing": ImportError("No module named 'array_record'"),
        }[ending]

    challenge.measure_file = measure_file
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("ending", "code", "message"),
    [
        ("stopped", 130, "Stopped at step 7 of target fc10; saved. The same command"),
        ("interrupted", 130, "Interrupted. The same command goes on."),
        ("missing", 2, "error: No module named 'array_record'"),
    ],
)
def test_no_ending_is_a_traceback(repository, ending, code, message):
    experiments = repository / "experiments"
    program = textwrap.dedent(ENDING).replace(
        "sys.argv[0]", repr(str(experiments / "challenge.py"))
    )
    result = subprocess.run(
        [
            *(sys.executable, "-c", program, str(experiments), ending),
            f"--config={repository / 'configs' / 'defence.py'}",
            "--file=attack.npy",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_needs_the_folder_of_the_classifier(run, digits):
    result = run(to_float(digits.test.images))
    assert result.returncode == 2
    assert "looked for in `target_dir`, got none" in result.stderr
