"""Programs of trained generators that run without this library."""

import importlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax import lax

from advgan_jax.checks import optional_library, unknown_name
from advgan_jax.types import Array

# Not for archives: JAX reads programs of the last six months only.
_PLATFORMS = ("cpu", "cuda", "tpu")


def export(generator: Any, path: str | os.PathLike[str], format: str) -> None:
    """Write a generator as a program; see `TrainedGenerator.export`."""
    if format not in _FORMATS:
        raise unknown_name("format", format, _FORMATS)
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; `export` needs a new path.")
    content = _FORMATS[format](generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)


def _stablehlo(generator: Any) -> bytes:
    optional_library("flatbuffers", "StableHLO")  # JAX imports it undeclared
    (batch,) = jax_export.symbolic_shape("batch")
    inputs = [jax.ShapeDtypeStruct((batch, *generator.image_shape), jnp.float32)]
    if generator.conditional:
        inputs.append(jax.ShapeDtypeStruct((batch,), jnp.int32))
    perturb = jax.jit(generator.perturb)
    exported = jax_export.export(perturb, platforms=_PLATFORMS)(*inputs)
    return bytes(exported.serialize())


def _onnx(generator: Any) -> bytes:
    try:
        jax2onnx: Any = importlib.import_module("jax2onnx")
    except ImportError as error:
        raise ImportError(
            "ONNX needs jax2onnx, which needs an older Orbax than training does. Save "
            "the generator, `generator.save('saved')`, and export it in a second "
            "environment: python -m venv onnx && onnx/bin/pip install jax2onnx "
            "safetensors && onnx/bin/pip install --no-deps advgan_jax && "
            "onnx/bin/advgan-jax export saved --format=onnx --out=generator.onnx"
        ) from error
    inputs = [jax.ShapeDtypeStruct(("B", *generator.image_shape), jnp.float32)]
    if generator.conditional:
        inputs.append(jax.ShapeDtypeStruct(("B",), jnp.int32))

    def _perturb(*arguments: Array) -> Array:
        with nn.intercept_methods(_plain_convolution):
            return generator.perturb(*arguments)

    names = {"input_names": ["images", "labels"][: len(inputs)]}
    names["output_names"] = ["adversarial"]
    return jax2onnx.to_onnx(_perturb, inputs, **names).SerializeToString()


def _plain_convolution(
    method: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Compute a fractionally strided convolution, whose layer jax2onnx cannot trace."""
    layer: Any = context.module
    if not isinstance(layer, nn.Conv) or layer.input_dilation in (None, 1):
        return method(*arguments, **options)
    known: dict[str, Any] = {
        "padding": layer.padding,
        "lhs_dilation": (layer.input_dilation,) * 2,
    }
    return lax.conv_general_dilated(
        arguments[0],
        layer.get_variable("params", "kernel"),
        window_strides=(1, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **known,
    )


_FORMATS = {"onnx": _onnx, "stablehlo": _stablehlo}
