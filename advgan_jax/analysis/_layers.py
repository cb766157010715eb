"""The linear layers of a Flax model, in the order of their calls.

The calls of `nn.Dense`, `nn.Conv` and `nn.BatchNorm` are intercepted while the model
runs. A model made of these needs no declaration of its layers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from advgan_jax.analysis import norms
from advgan_jax.checks import is_concrete
from advgan_jax.types import Array

LINEAR = (nn.Dense, nn.Conv, nn.BatchNorm)


class Layer(NamedTuple):
    """One linear layer with its bound.

    Attributes:
      name: path of the module, `Conv_0` or `_Block_3/Conv_1`; with `#2` and so on where
        a module is called again.
      kind: `dense`, `conv` or `batch_norm`.
      size: `784x100`, `64x8x8x128` (maps in, window, maps out) or `64`.
      stride: of rows; 1 unless the layer is a convolution.
      bound: strict upper bound of the operator's norm, with zero padding.
      circular: the paper's bound, on the torus of the unpadded image; differs from
        `bound` for convolutions only.
    """

    name: str
    kind: str
    size: str
    stride: int
    bound: float
    circular: float


def intercept_layers(
    model: nn.Module, variables: Any, images: Any, replace: Callable[..., Array]
) -> Any:
    """Run a model; replace each layer's output by `replace(module, name, x, y)`."""
    calls: dict[str, int] = {}

    def intercept(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        """Call a method; replace its output if it is a linear layer's."""
        y = next_fun(*args, **kwargs)
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, LINEAR):
            return y
        name = "/".join(module.path)
        calls[name] = calls.get(name, 0) + 1
        label = name if calls[name] == 1 else f"{name}#{calls[name]}"
        return replace(module, label, args[0], y)

    with nn.intercept_methods(intercept):
        return model.apply(variables, images)


def bound_layer(module: nn.Module, name: str, shape: Sequence[int]) -> Layer:
    """Bound the norm of a layer that has its weights; `shape` is its input's."""
    if not all(map(is_concrete, jax.tree.leaves(module.variables))):
        raise ValueError(
            f"The weights of layer {name!r} must be known where it is called, got "
            "traced ones; take the model without `nn.remat`, `nn.jit` or `nn.scan`."
        )
    if isinstance(module, nn.BatchNorm):
        return _bound_batch_norm(module, name)
    kernel = np.asarray(module.variables["params"]["kernel"])
    if isinstance(module, nn.Dense):
        bound = norms.dense_norm(kernel)
        size = "x".join(map(str, kernel.shape))
        return Layer(name, "dense", size, 1, bound, bound)
    return _bound_conv(module, name, kernel, shape)


def _bound_batch_norm(module: nn.BatchNorm, name: str) -> Layer:
    """Bound a layer that multiplies each channel by `scale / sqrt(var + eps)`."""
    variables = module.variables
    factors = 1 / np.sqrt(np.asarray(variables["batch_stats"]["var"]) + module.epsilon)
    if module.use_scale:
        factors = factors * np.asarray(variables["params"]["scale"])
    bound = float(np.abs(factors).max())
    return Layer(name, "batch_norm", str(factors.size), 1, bound, bound)


def _bound_conv(
    module: Any, name: str, kernel: np.ndarray, shape: Sequence[int]
) -> Layer:
    """Bound an `nn.Conv` on the torus of its padded and of its plain input."""
    strides, dilation = _pair(module.strides), _pair(module.kernel_dilation)
    groups, inputs = module.feature_group_count, _pair(module.input_dilation)
    if kernel.ndim != 4 or groups != 1 or inputs != (1, 1) or module.mask is not None:
        raise ValueError(
            f"Convolution {name!r} must have two axes, one group, no input dilation "
            f"and no mask to be bounded, got a kernel {list(kernel.shape)}, {groups} "
            f"groups and dilation {inputs}."
        )
    maps_in, maps_out = kernel.shape[2:]
    size = "x".join(map(str, (maps_in, *kernel.shape[:2], maps_out)))
    kernel, grid = norms.dilate(kernel, dilation), shape[1:3]
    padding = _padding(module.padding, grid, kernel.shape[:2], strides, name)
    bound, circular = (
        norms.conv_norm(
            kernel, strides=strides, grid=norms.padded_grid(grid, pads, strides)
        )
        for pads in (padding, [(0, 0), (0, 0)])
    )
    return Layer(name, "conv", size, strides[0], bound, circular)


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    """Return a setting of Flax as one number for rows and one for columns."""
    if value is None or isinstance(value, int):
        return value or 1, value or 1
    return value[0], value[-1]


def _padding(
    padding: Any,
    grid: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    name: str,
) -> Sequence[tuple[int, int]]:
    """Return the zeros before and after the rows and the columns."""
    if padding in ("SAME", "VALID"):
        return lax.padtype_to_pads(grid, window, strides, padding)
    if isinstance(padding, str):
        raise ValueError(
            f"Convolution {name!r} must be padded with zeros (SAME, VALID or numbers) "
            f"to be bounded, got padding {padding!r}."
        )
    each = (padding,) * 2 if isinstance(padding, int) else padding
    return [(p, p) if isinstance(p, int) else tuple(p) for p in each]


def layer_values(
    model: nn.Module, variables: Any, images: Array | np.ndarray
) -> dict[str, tuple[Array, Array]]:
    """Return the input and the output of each linear layer.

    Args:
      model: any Flax module that takes only images at inference.
      variables: its weights.
      images: `[B, H, W, C]`.

    Returns:
      `(input, output)` by the layer's name, in the order of the calls.
    """
    names: list[str] = []

    def keep_name(_: nn.Module, name: str, __: Array, y: Array) -> Array:
        """Record the name of a layer."""
        names.append(name)
        return y

    jax.eval_shape(lambda x: intercept_layers(model, variables, x, keep_name), images)
    return dict(zip(names, _values(model, variables, images), strict=True))


@partial(jax.jit, static_argnames="model")
def _values(
    model: nn.Module, variables: Any, images: Array
) -> list[tuple[Array, Array]]:
    """Return inputs and outputs as a list; `jit` would sort the keys of a dict."""
    values = []

    def keep_values(_: nn.Module, __: str, x: Array, y: Array) -> Array:
        """Record the input and the output of a layer."""
        values.append((x, y))
        return y

    intercept_layers(model, variables, images, keep_values)
    return values
