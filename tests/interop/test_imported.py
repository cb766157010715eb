"""Models by import path: what is found, what identifies them, and what is refused."""

import itertools
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import interop
from advgan_jax.interop import imported

IMAGES = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
CODE = """
    import jax.numpy as jnp
    import numpy as np

    VALUE = 3

    def first_pixels(weights=None):
        factor = 1.0 if weights is None else float(np.load(weights))
        return lambda images: factor * images.reshape(len(images), -1)[:, :10]

    def takes_two(first, second): ...
    def number(): return 3
    def raising(): return undefined
    def raises_later(): return lambda images: undefined
    def no_number(): return lambda images: jnp.full((len(images), 10), jnp.nan)
    def seven(): return lambda images: jnp.zeros((len(images), 7)) + images.sum()
    def flat(): return lambda images: images.reshape(-1)
"""
_numbers = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module with a name of its own; return the name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imported, "_known", {})

    def _write(code=CODE, folder=None):
        name = f"written_{next(_numbers)}"
        path = tmp_path / name / "__init__.py" if folder else tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return name

    return _write


def test_returns_the_model_of_the_function(write, tmp_path):
    name = write()
    np.save(tmp_path / "weights.npy", 2.0)
    for weights, factor in ((None, 1), (str(tmp_path / "weights.npy"), 2)):
        model = imported.load(f"{name}:first_pixels", weights, 10)
        imported.check_model(model, name, IMAGES, 10)
        imported.check_gradients(model, name, (8, 8, 1), "pgd")
        expected = factor * IMAGES.reshape(4, -1)[:, :10]
        np.testing.assert_array_equal(model(IMAGES), expected)


def test_weights_and_source_identify_a_model(write, tmp_path):
    weights = tmp_path / "weights.npy"
    np.save(weights, 2.0)
    given = (f"{write()}:first_pixels", str(weights))
    first = imported.identify(*given)
    model = imported.load(*given, 10)
    assert set(first) == {"weights", "source"}
    other = imported.identify(
        f"{write(CODE + '    VALUE = 4')}:first_pixels", str(weights)
    )
    assert other["weights"] == first["weights"]
    assert other["source"] != first["source"]

    np.save(weights, 3.0)
    assert imported.identify(*given) == first  # that of the loaded model
    assert imported.load(*given, 10) is model
    changed = imported.identify(*given, again=True)
    assert changed["weights"] != first["weights"]
    assert changed["source"] == first["source"]
    np.testing.assert_array_equal(
        imported.load(*given, 10)(IMAGES), 1.5 * model(IMAGES)
    )


def test_a_source_that_changed_since_its_import_is_refused(write, tmp_path):
    name = write()
    imported.identify(f"{name}:first_pixels")
    (tmp_path / f"{name}.py").write_text("first_pixels = None")
    with pytest.raises(ValueError, match=r"has changed since.*start a new process"):
        imported.identify(f"{name}:first_pixels", again=True)


def test_all_files_of_a_package_count(write, tmp_path):
    found = []
    for text in ("1", "2"):
        name = write("from .inner import make", folder=True)
        (tmp_path / name / "inner.py").write_text(f"def make(): return {text}")
        found.append(imported.identify(f"{name}:make")["source"])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}:first_pixel", r"Unknown function of .*Did you mean 'first_pixels'"),
        ("{}:", r"must be `package.module:function`"),
        ("{}:a.b", r"must be `package.module:function`"),
        ("torch:{}", r"must be `package.module:function`"),
        ("{}x:make", r"No module named '.*x', which"),
        ("{}:VALUE", r"must be a function that returns a model, got int"),
        ("{}:takes_two", r"called with no argument.*got the signature \(first, second"),
        ("{}:number", r"must return a model, a function .*got int"),
        ("{}:raising", r"failed: NameError.*undefined.*written_\d+\.py, line 13"),
        ("{}:raises_later", r"unusable: NameError.*written_\d+\.py, line 14"),
        ("{}:no_number", r"unusable: .*must return finite logits"),
        ("{}:seven", r"must have the 10 classes of the data set, got 7"),
        ("{}:flat", r"unusable: .*must return logits of shape"),
        ("onnx:none.onnx", r"none\.onnx does not exist"),
    ],
)
def test_refuses(write, name, message):
    name = name.format(write())
    with pytest.raises((ValueError, TypeError, OSError, ImportError), match=message):
        imported.check_model(imported.load(name, None, 10), name, IMAGES, 10)


def test_refuses_missing_or_superfluous_weights(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npy does not exist"):
        imported.identify(f"{write()}:first_pixels", "none.npy")
    with pytest.raises(ValueError, match="An ONNX file contains its weights"):
        imported.identify("onnx:none.onnx", "none.npy")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        imported.identify(f"{write()}:first_pixels", str(tmp_path / "empty"))


def test_a_module_with_an_error_is_one_line(write):
    name = write("def make(:")
    with pytest.raises(ImportError, match=rf"SyntaxError.*{name}\.py, line 1") as found:
        imported.load(f"{name}:make", None, 10)
    assert "\n" not in str(found.value)
    with pytest.raises(ImportError, match="No module named 'absent_library'"):
        imported.load(f"{write('import absent_library')}:make", None, 10)


def test_a_model_without_gradients_is_refused(write):
    code = """
        from advgan_jax import interop

        def make():
            return interop.from_host(lambda x: x.reshape(len(x), -1)[:, :10], 10)
    """
    name = f"{write(code)}:make"
    model = imported.load(name, None, 10)
    imported.check_model(model, name, IMAGES, 10)
    with pytest.raises(ValueError, match=r"has no gradients, and `pgd` needs them"):
        imported.check_gradients(model, name, (8, 8, 1), "`pgd`")


def test_onnx_needs_its_runtime(monkeypatch, tmp_path):
    (tmp_path / "model.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="python -m pip install onnxruntime"):
        interop.from_onnx(tmp_path / "model.onnx", 10)


@pytest.mark.slow
def test_a_torch_module_by_its_name(write):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    code = """
        import torch

        def make():
            layers = torch.nn.Flatten(), torch.nn.Linear(64, 10)
            return torch.nn.Sequential(*layers).eval()

        def training():
            return make().train()
    """
    name = write(code)
    model = imported.load(f"torch:{name}:make", None, 10)
    imported.check_model(model, name, IMAGES, 10)
    imported.check_gradients(model, name, (8, 8, 1), "pgd")
    with pytest.raises(ValueError, match=r"call `module.eval\(\)`"):
        imported.load(f"torch:{name}:training", None, 10)
    wrong = imported.load(f"torch:{name}:make", None, 7)
    with pytest.raises(ValueError, match=r"unusable: .*logits of shape \(8?4?, 7\)"):
        imported.check_model(wrong, name, IMAGES, 7)


@pytest.mark.slow
class TestOnnx:
    @pytest.fixture
    def export(self, tmp_path):
        """Write a model that returns its flat input, of some shape."""
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
        onnx = pytest.importorskip("onnx", reason="onnx is not installed")

        def _export(shape, kind="FLOAT"):
            tensor, helper = onnx.TensorProto, onnx.helper
            types = getattr(tensor, kind)
            inputs = helper.make_tensor_value_info("x", types, shape)
            outputs = helper.make_tensor_value_info("y", types, None)
            node = helper.make_node("Flatten", ["x"], ["y"])
            graph = helper.make_graph([node], "flat", [inputs], [outputs])
            versions = [helper.make_opsetid("", 17)]
            path = tmp_path / "model.onnx"
            onnx.save(
                helper.make_model(graph, opset_imports=versions, ir_version=8), path
            )
            return path

        return _export

    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    def test_finds_the_layout(self, export, layout):
        images = np.random.default_rng(0).random((3, 2, 4, 5), np.float32)
        shape = [2, 4, 5] if layout == "NHWC" else [5, 2, 4]
        name = f"onnx:{export(['batch', *shape])}"
        model = imported.load(name, None, 40)
        imported.check_model(model, name, images, 40)
        order = (0, 1, 2, 3) if layout == "NHWC" else (0, 3, 1, 2)
        expected = images.transpose(order).reshape(3, -1)
        np.testing.assert_array_equal(jax.jit(model)(jnp.asarray(images)), expected)

    @pytest.mark.parametrize(
        ("shape", "kind", "message"),
        [
            (["b", 8, 8, 8], "FLOAT", r"fits both layouts.*pass `layout`"),
            (["b", 3, 9, 9], "FLOAT", r"fits no layout"),
            ([1, 8, 8, 8], "FLOAT", r"got the fixed size 1; export"),
            (["b", 8, 8, 8], "DOUBLE", r"one float32 input of four axes"),
            (["b", 512], "FLOAT", r"one float32 input of four axes"),
        ],
    )
    def test_refuses(self, export, shape, kind, message):
        path = export(shape, kind)
        with pytest.raises(ValueError, match=message):
            interop.from_onnx(path, 512)(jnp.zeros((2, 8, 8, 8)))

    def test_refuses_another_file(self, export, tmp_path):
        export(["b", 8, 8, 8]).write_text("no model")
        with pytest.raises(ValueError, match=r"model\.onnx must be an ONNX model"):
            interop.from_onnx(tmp_path / "model.onnx", 10)
