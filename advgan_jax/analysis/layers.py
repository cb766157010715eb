"""The linear layers of a Flax model, in the order in which images pass them.

Nothing has to be declared: the calls of `nn.Dense`, `nn.Conv` and `nn.BatchNorm` are
intercepted while the model runs, so any module made of these can be looked into.
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
      bound: upper bound of the operator's norm, strict with zero padding.
      circular: the same on the torus of the unpadded image, as the paper has it; equal
        to `bound` for all but convolutions.
    """

    name: str
    kind: str
    size: str
    stride: int
    bound: float
    circular: float


def run_with(
    model: nn.Module, variables: Any, images: Array, seen: Callable[..., Array]
) -> Array:
    """Runs a model and shows each linear layer that it calls to a function.

    Args:
      model: any Flax module that takes images alone at inference.
      variables: its weights.
      images: `[B, H, W, C]`.
      seen: called with the module, its name, its input and its output; what it returns
        takes the output's place.

    Returns:
      What the model returns.
    """
    calls: dict[str, int] = {}

    def intercept(next_fun, args, kwargs, context):
        y = next_fun(*args, **kwargs)
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, LINEAR):
            return y
        name = "/".join(module.path)
        calls[name] = calls.get(name, 0) + 1
        label = name if calls[name] == 1 else f"{name}#{calls[name]}"
        return seen(module, label, args[0], y)

    with nn.intercept_methods(intercept):
        return model.apply(variables, images)


def describe(module: nn.Module, name: str, shape: Sequence[int]) -> Layer:
    """A linear layer and the bounds of its norm.

    Args:
      module: bound to its weights, an instance of one of `LINEAR`.
      name: what to call it.
      shape: of its input.

    Returns:
      The layer.

    Raises:
      ValueError: if it is a convolution that the Fourier formula does not cover, or
        its weights are not known while the model is traced.
    """
    if not all(map(is_concrete, jax.tree.leaves(module.variables))):
        raise ValueError(
            f"The weights of layer {name!r} must be known where it is called, got "
            "traced ones; take the model without `nn.remat`, `nn.jit` or `nn.scan`."
        )
    if isinstance(module, nn.BatchNorm):
        return _batch_norm(module, name)
    kernel = np.asarray(module.variables["params"]["kernel"])
    if isinstance(module, nn.Dense):
        bound = norms.dense_norm(kernel)
        size = "x".join(map(str, kernel.shape))
        return Layer(name, "dense", size, 1, bound, bound)
    return _conv(module, name, kernel, shape)


def _batch_norm(module: nn.BatchNorm, name: str) -> Layer:
    """At inference: each channel is multiplied by `scale / sqrt(var + eps)`."""
    variables = module.variables
    factors = 1 / np.sqrt(np.asarray(variables["batch_stats"]["var"]) + module.epsilon)
    if module.use_scale:
        factors = factors * np.asarray(variables["params"]["scale"])
    bound = float(np.abs(factors).max())
    return Layer(name, "batch_norm", str(factors.size), 1, bound, bound)


def _conv(
    module: nn.Conv, name: str, kernel: np.ndarray, shape: Sequence[int]
) -> Layer:
    strides, dilation = (
        _pair(value) for value in (module.strides, module.kernel_dilation)
    )
    groups, inputs = module.feature_group_count, _pair(module.input_dilation)
    if kernel.ndim != 4 or groups != 1 or inputs != (1, 1) or module.mask is not None:
        raise ValueError(
            f"Convolution {name!r} must have two axes, one group, no input dilation "
            f"and no mask to be bounded, got a kernel {list(kernel.shape)}, {groups} "
            f"groups and dilation {inputs}."
        )
    maps_in, maps_out = kernel.shape[2:]
    size = "x".join(map(str, (maps_in, *kernel.shape[:2], maps_out)))
    kernel, grid = norms.dilated(kernel, dilation), shape[1:3]
    padding = _padding(module.padding, grid, kernel.shape[:2], strides, name)
    padded = norms.padded_grid(grid, padding, strides)
    plain = norms.padded_grid(grid, [(0, 0), (0, 0)], strides)
    bound = norms.conv_norm(kernel, strides=strides, grid=padded)
    circular = norms.conv_norm(kernel, strides=strides, grid=plain)
    return Layer(name, "conv", size, strides[0], bound, circular)


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    if value is None or isinstance(value, int):
        return (value or 1,) * 2
    return tuple(value) if len(value) == 2 else tuple(value) * 2


def _padding(padding, grid, window, strides, name) -> list[tuple[int, int]]:
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
    model: nn.Module, variables: Any, images: Array
) -> dict[str, tuple[Array, Array]]:
    """What goes into each linear layer and what comes out of it.

    Args:
      model: any Flax module that takes images alone at inference.
      variables: its weights.
      images: `[B, H, W, C]`.

    Returns:
      `(input, output)` by the layer's name, in the order of the calls.
    """
    names: list[str] = []

    def keep(module, name, x, y):
        del module, x
        names.append(name)
        return y

    jax.eval_shape(lambda x: run_with(model, variables, x, keep), images)
    return dict(zip(names, _values(model, variables, images), strict=True))


@partial(jax.jit, static_argnames="model")
def _values(model, variables, images):
    # A list: a dict would leave `jit` in the order of its keys.
    values = []

    def keep(module, name, x, y):
        del module, name
        values.append((x, y))
        return y

    run_with(model, variables, images, keep)
    return values
