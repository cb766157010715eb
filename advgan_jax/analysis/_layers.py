"""The linear layers of a Flax model, in the order of their calls.

The calls of `nn.Dense`, `nn.Conv` and `nn.BatchNorm` are intercepted while the model
runs, so a model need not declare its layers.
"""

from collections import OrderedDict
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


class Layer(NamedTuple):
    """One linear layer with its bound."""

    name: str  # path of the module, `_Block_3/Conv_1`; a second call adds `#2`
    kind: str  # `dense`, `conv` or `batch_norm`
    size: str  # `784x100`, `64x8x8x128` (maps in, window, maps out) or `64`
    stride: int  # of rows; 1 unless the layer is a convolution
    bound: float  # strict upper bound of the operator's norm, with zero padding
    # The paper's bound, on the torus of the unpadded image; another for convolutions.
    circular: float


def intercept_layers(
    model: nn.Module, variables: Any, images: Any, replace: Callable[..., Array]
) -> Any:
    """Run a model; replace each layer's output by `replace(module, name, x, y)`."""
    calls: dict[str, int] = {}

    def _intercept(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        y = next_fun(*args, **kwargs)
        module = context.module
        is_linear = isinstance(module, nn.Dense | nn.Conv | nn.BatchNorm)
        if context.method_name != "__call__" or not is_linear:
            return y
        name = "/".join(module.path)
        calls[name] = calls.get(name, 0) + 1
        label = name if calls[name] == 1 else f"{name}#{calls[name]}"
        return replace(module, label, args[0], y)

    with nn.intercept_methods(_intercept):
        return model.apply(variables, images)


def bound_layer(module: nn.Module, name: str, shape: Sequence[int]) -> Layer:
    """Bound the norm of a layer with known weights; `shape` is that of its input."""
    if not all(map(is_concrete, jax.tree.leaves(module.variables))):
        raise ValueError(
            f"The weights of layer {name!r} must be known where it is called, got "
            "traced ones; take the model without `nn.remat`, `nn.jit` or `nn.scan`."
        )
    if isinstance(module, nn.BatchNorm):  # multiplies by `scale / sqrt(var + eps)`
        variance = np.asarray(module.variables["batch_stats"]["var"])
        factors = 1 / np.sqrt(variance + module.epsilon)
        if module.use_scale:
            factors = factors * np.asarray(module.variables["params"]["scale"])
        bound = float(np.abs(factors).max())
        return Layer(name, "batch_norm", str(factors.size), 1, bound, bound)
    kernel = np.asarray(module.variables["params"]["kernel"])
    if isinstance(module, nn.Dense):
        bound = norms.dense_norm(kernel)
        return Layer(name, "dense", "x".join(map(str, kernel.shape)), 1, bound, bound)
    return _bound_conv(module, name, kernel, shape)


def _bound_conv(
    module: Any, name: str, kernel: np.ndarray, shape: Sequence[int]
) -> Layer:
    """Bound an `nn.Conv` on the torus of its padded and on that of its plain input."""
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
    paddings = (_padding(module, name, grid, kernel.shape), [(0, 0), (0, 0)])
    grids = (norms.padded_grid(grid, padding, strides) for padding in paddings)
    bound, circular = (norms.conv_norm(kernel, strides=strides, grid=g) for g in grids)
    return Layer(name, "conv", size, strides[0], bound, circular)


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    """Return a setting of Flax as one number for rows and one for columns."""
    if value is None or isinstance(value, int):
        return value or 1, value or 1
    return value[0], value[-1]


def _padding(
    module: Any, name: str, grid: Sequence[int], kernel_shape: Sequence[int]
) -> Sequence[tuple[int, int]]:
    """Return the zeros before and after the rows and the columns."""
    padding, strides = module.padding, _pair(module.strides)
    if padding in ("SAME", "VALID"):
        return lax.padtype_to_pads(grid, kernel_shape[:2], strides, padding)
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
    """Return `(input, output)` of each linear layer by its name, in the order of calls.

    `model` is any Flax module that takes only images `[B, H, W, C]` at inference.
    """
    return _layer_values(model, variables, images)


@partial(jax.jit, static_argnames="model")
def _layer_values(model: nn.Module, variables: Any, images: Array) -> OrderedDict:
    """Return the values of `layer_values`; `jit` would sort the keys of a dict."""
    values = OrderedDict()

    def _keep(_: nn.Module, name: str, x: Array, y: Array) -> Array:
        values[name] = (x, y)
        return y

    intercept_layers(model, variables, images, _keep)
    return values
