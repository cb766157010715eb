"""A file of adversarial images as a command: an accuracy, or what is wrong with it."""

import subprocess
import sys

import numpy as np
import pytest

from advgan_jax.data import to_float


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
        np.clip(images + np.float32(0.3), 0, 1), f"--config.target_dir={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "clean accuracy",
        "accuracy on the file",
        "largest perturbation",
    ]
    assert lines[2].endswith("0.300000")


def test_names_the_first_image_that_breaks_a_rule(run, digits, tmp_path):
    images = to_float(digits.test.images).copy()
    images[4, 2, 2] = np.nan
    result = run(images, f"--config.target_dir={tmp_path}")
    assert result.returncode == 2
    assert "error: Adversarial images must be finite numbers, image 4" in result.stderr
    assert not list(tmp_path.glob("digits-*"))  # no classifier was trained for it


def test_needs_the_folder_of_the_classifier(run, digits):
    result = run(to_float(digits.test.images))
    assert result.returncode == 2
    assert "looked for in `target_dir`, got none" in result.stderr
