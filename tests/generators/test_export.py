"""Exported generators run without this library, on batches of any size."""

import os
import subprocess
import sys

import numpy as np
import pytest

_RUN = """
import sys, jax, numpy as np
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
with np.load(sys.argv[2]) as arrays:
    for count in (1, 3):
        found = program.call(*(arrays[name][:count] for name in sorted(arrays)))
        # Other batch sizes are summed in another order.
        np.testing.assert_allclose(found, np.load(sys.argv[3])[:count], atol=1e-6)
assert "advgan_jax" not in sys.modules
"""


@pytest.mark.parametrize("conditional", [False, True])
def test_stablehlo_runs_without_this_library(
    make_generator, images, tmp_path, conditional
):
    generator = make_generator(conditional, bounds=(-1.0, 1.0))
    inputs = {"0": images}
    if conditional:
        inputs["1"] = np.array([0, 3, 4], np.int32)
    np.savez(tmp_path / "in.npz", **inputs)
    np.save(tmp_path / "out.npy", generator.perturb(*inputs.values()))
    program = tmp_path / "new" / "generator.stablehlo"
    generator.export(program)
    with pytest.raises(FileExistsError, match=r"generator.stablehlo exists; `export`"):
        generator.export(program)
    files = [program, tmp_path / "in.npz", tmp_path / "out.npy"]
    command = [sys.executable, "-c", _RUN, *map(str, files)]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PATH": ""})


def test_unknown_formats_and_missing_packages(make_generator, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"Unknown format 'tflite'.*onnx, stablehlo"):
        make_generator().export(tmp_path / "g", "tflite")
    for package, format, cure in (
        ("jax2onnx", "onnx", "onnx/bin/pip install jax2onnx"),
        ("flatbuffers", "stablehlo", "pip install flatbuffers"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=cure):
            make_generator().export(tmp_path / "g", format)
    assert not list(tmp_path.iterdir())


_ONNX = """
import sys, numpy as np, onnxruntime
from advgan_jax import TrainedGenerator
TrainedGenerator.load(sys.argv[1]).export(sys.argv[2], "onnx")
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
with np.load(sys.argv[3]) as arrays:
    for count in (1, 3):
        names = [given.name for given in session.get_inputs()]
        assert names == sorted(arrays)
        inputs = {name: arrays[name][:count] for name in names}
        (found,) = session.run(["adversarial"], inputs)
        # Both round float32, in another order.
        np.testing.assert_allclose(found, np.load(sys.argv[4])[:count], atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
def test_onnx_from_a_saved_folder_in_a_second_environment(
    make_generator, images, tmp_path, repository, conditional
):
    """`ONNX_PYTHON` names the Python of the environment of the error message."""
    python = os.environ.get("ONNX_PYTHON")
    if python is None:
        pytest.skip("needs ONNX_PYTHON, a Python with jax2onnx and onnxruntime")
    generator = make_generator(conditional, bounds=(-1.0, 1.0))
    inputs = {"images": images}
    if conditional:
        inputs["labels"] = np.array([0, 3, 4], np.int32)
    np.savez(tmp_path / "in.npz", **inputs)
    np.save(tmp_path / "out.npy", generator.perturb(*inputs.values()))
    generator.save(tmp_path / "saved")
    names = ("saved", "generator.onnx", "in.npz", "out.npy")
    files = [str(tmp_path / name) for name in names]
    command = [python, "-c", _ONNX, *files]
    environment = {"PATH": "", "PYTHONPATH": str(repository)}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
