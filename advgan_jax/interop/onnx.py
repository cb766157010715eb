"""ONNX models through ONNX Runtime, without gradients."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import optional_library
from advgan_jax.files import one_line
from advgan_jax.interop.host import from_host
from advgan_jax.interop.preprocessing import LAYOUTS, check_layout, to_layout
from advgan_jax.types import Array, LogitsFn


def from_onnx(
    path: str | os.PathLike[str], num_classes: int, *, layout: str | None = None
) -> LogitsFn:
    """Make a model of an ONNX file, which ONNX Runtime computes on the CPU.

    It has no gradient, see `from_host`.

    Args:
      path: the file. The model has one float32 input with a free batch axis, and one
        output, the logits.
      num_classes: K.
      layout: the layout of its input, `NCHW` or `NHWC`; None finds it when the model
        is called, by the sizes that the file states.

    Returns:
      The model, `[B, H, W, C] -> [B, K]` float32 logits.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if ONNX Runtime is not installed.
      ValueError: for another file, or other inputs or outputs; when called, if the
        layout cannot be found.
    """
    if layout is not None:
        check_layout(layout)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist; expected an ONNX file.")
    runtime = optional_library("onnxruntime", "An ONNX model")
    try:
        providers = ["CPUExecutionProvider"]
        session = runtime.InferenceSession(os.fspath(path), providers=providers)
    except Exception as error:  # its own types
        raise ValueError(f"{path} must be an ONNX model: {one_line(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = [(one.type, len(one.shape)) for one in inputs]
    if kinds != [("tensor(float)", 4)] or len(outputs) != 1:
        raise ValueError(
            f"{path} must have one float32 input of four axes and one output, got "
            f"inputs {kinds} and {len(outputs)} outputs."
        )
    ((batch, *sizes),) = (one.shape for one in inputs)
    if isinstance(batch, int):
        raise ValueError(
            f"{path} must accept batches of any size, got the fixed size {batch}; "
            "export it with a dynamic batch axis."
        )

    def _run(images: np.ndarray) -> Any:
        return session.run(None, {inputs[0].name: np.ascontiguousarray(images)})[0]

    own = from_host(_run, num_classes, name=str(path))

    def _logits_fn(images: Array) -> Array:
        chosen = layout or _find_layout(sizes, images.shape[1:], str(path))
        return own(to_layout(jnp.asarray(images, jnp.float32), chosen))

    return _logits_fn


def _find_layout(sizes: list[Any], image_shape: tuple[int, ...], path: str) -> str:
    """Return the layout in which images `[H, W, C]` fit the sizes of an input."""
    height, width, channels = image_shape
    shapes = ((height, width, channels), (channels, height, width))  # as in LAYOUTS
    fitting = [
        layout
        for layout, shape in zip(LAYOUTS, shapes, strict=True)
        if all(
            own == size or not isinstance(own, int)
            for own, size in zip(sizes, shape, strict=True)
        )
    ]
    if len(fitting) != 1:
        found = "fits both layouts" if fitting else "fits no layout"
        raise ValueError(
            f"The input {sizes} of {path} {found} of images [H, W, C] = "
            f"{list(image_shape)}; export the model with fixed sizes, or pass `layout` "
            "to `from_onnx`."
        )
    return fitting[0]
