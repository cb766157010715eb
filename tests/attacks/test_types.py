"""A type checker sees the parameters of each attack, where one is installed."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("pyright", reason="checks the types of calls")
SNIPPET = """
import jax
import numpy as np

from advgan_jax import attacks
from advgan_jax.types import Array, Attack


def model(images: Array) -> Array:
    return images[:, 0, 0]


images, labels, key = np.zeros((3, 1, 1, 2)), np.zeros(3, int), jax.random.key(0)
attacks.pgd(model, images, labels, epsilon=0.1, key=key)
attack: Attack = attacks.make_attack("pgd", num_steps=3)
attack(model, images, labels, epsilon=0.3, key=key)
attack = attacks.worst_case([attacks.fgsm, attacks.lbfgs, attacks.transfer])
found: Array = attacks.lbfgs_search(model, images).distance_weight
attacks.fgsm(model, images, labels, eps=0.1)  # error
attacks.fgsm(model, images, labels, epsilon="0.1")  # error
attacks.pgd(model, images, labels)  # error
attacks.carlini_wagner_l2(model, images, labels, epsilon=0.1)  # error
"""


def test_wrong_arguments_are_type_errors(tmp_path):
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET)
    command = [sys.executable, "-m", "pyright", "--outputjson"]
    command += ["--pythonpath", sys.executable, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    errors = {
        error["range"]["start"]["line"]
        for error in json.loads(result.stdout)["generalDiagnostics"]
    }
    expected = [i for i, line in enumerate(SNIPPET.split("\n")) if "# error" in line]
    assert sorted(errors) == expected, result.stdout
