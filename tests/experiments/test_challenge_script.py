"""The command that measures accuracy on a file of images: results and errors."""

import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from advgan_jax import runs
from advgan_jax.cli import faults
from advgan_jax.data import to_float
from advgan_jax.runs.methods import challenge

pytestmark = pytest.mark.optimised


@pytest.fixture
def run(repository, tmp_path):
    def run(images, *arguments):
        np.save(tmp_path / "attack.npy", images)
        command = [
            sys.executable,
            str(repository / "experiments" / "challenge.py"),
            f"--config={repository / 'configs' / 'defence.py'}",
            f"--file={tmp_path / 'attack.npy'}",
            "--config.target_model=fc10",
            "--config.target_training.defence=adv",
            "--config.target_training.defences.adv.training.num_epochs=3",
        ]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300
        )

    return run


@pytest.mark.slow
def test_prints_the_accuracy_on_the_file(run, digits, tmp_path):
    images = to_float(digits.test.images)
    result = run(
        np.clip(images + np.float32(0.3), 0, 1),
        f"--config.target_model_dir={tmp_path}",
        f"--compilation_cache={tmp_path / 'programs'}",
    )
    assert result.returncode == 0, result.stderr
    announced, *lines = result.stdout.splitlines()
    assert announced.endswith(": defence digits")
    assert [line.split("  ")[0] for line in lines] == [
        "clean accuracy",
        "accuracy on the file",
        "largest perturbation",
    ]
    assert lines[2].endswith("0.300000")
    assert list((tmp_path / "programs").glob("*-cache"))


@pytest.mark.slow
def test_names_the_first_image_that_breaks_a_rule(run, digits, tmp_path):
    images = to_float(digits.test.images).copy()
    images[4, 2, 2] = np.nan
    result = run(images, f"--config.target_model_dir={tmp_path}")
    assert result.returncode == 2
    assert "error: Adversarial images must be finite numbers, image 4" in result.stderr
    assert not list(tmp_path.glob("digits-*"))  # no classifier was trained for it


def test_an_empty_file_is_refused(get_config, tmp_path):
    config = get_config("defence", target_model_dir=str(tmp_path))
    (tmp_path / "attack.npy").touch()
    with pytest.raises(ValueError, match=r"attack\.npy must be a complete \.npy file"):
        challenge.measure_file(config, tmp_path / "attack.npy")


def test_a_configuration_without_epsilon_is_refused(get_config, tmp_path):
    config = get_config("target_model", target_model_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"`epsilon`.*'target_model'.*--config=defence"
    ):
        challenge.measure_file(config, tmp_path / "attack.npy")


# A signal cannot be timed, so a function that raises replaces the measurement.
ENDING = """
    import runpy
    import sys
    sys.path.insert(0, sys.argv.pop(1))
    from advgan_jax import runs
    from advgan_jax.runs.methods import challenge

    def measure_file(*_):
        raise runs.Stopped("Stopped at step 7; saved.")

    challenge.measure_file = measure_file
    runpy.run_path(sys.path[0] + "/challenge.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_signal_ends_it_with_one_line(repository):
    experiments = repository / "experiments"
    result = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(ENDING), str(experiments)),
            f"--config={repository / 'configs' / 'defence.py'}",
            "--file=attack.npy",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 130, result.stderr
    assert (
        "Stopped at step 7; saved. Run the same command again to resume."
        in result.stderr
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            runs.Stopped("Stopped at step 7; saved."),
            130,
            "Stopped at step 7; saved. On!",
        ),
        (MemoryError(), 2, "error: The memory does not suffice (no reason given)."),
        (ImportError("No module named 'a'"), 2, "error: No module named 'a'"),
        (FloatingPointError("NaN"), 2, "error: NaN"),
    ],
)
def test_endings(capsys, error, code, message):
    with pytest.raises(SystemExit) as ended, faults.one_line_errors("On!"):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(message)


def test_an_error_while_tracing_is_one_line(capsys):
    """JAX adds a note on its frames to exceptions under tracing."""

    def mistaken(x):
        error = ValueError("`num_steps` must be >= 1, got 0.")
        error.add_note("In the attack `pgd`.")
        raise error

    with pytest.raises(SystemExit), faults.one_line_errors("On!"):
        jax.eval_shape(jax.jit(mistaken), 1.0)
    errors = capsys.readouterr().err
    assert errors == "error: `num_steps` must be >= 1, got 0. In the attack `pgd`.\n"


@pytest.mark.slow
def test_needs_the_folder_of_the_classifier(run, digits):
    result = run(to_float(digits.test.images))
    assert result.returncode == 2
    assert "`target_model_dir` must be the folder" in result.stderr
