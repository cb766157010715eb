"""The linear layers of a Flax model, in the order of their calls.

The calls of `nn.Dense`, `nn.Conv` and `nn.BatchNorm` are intercepted while the model
runs, so a model need not declare its layers. A layer is bounded only if it is known to
compute the product with its own kernel. One that may compute anything else is rejected:
a subclass, another product or promotion, and a layer whose output is changed by another
interceptor.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from advgan_jax.analysis import norms
from advgan_jax.checks import is_concrete, to_float
from advgan_jax.cpu import layers as own
from advgan_jax.types import Array

_LINEAR = (nn.Dense, nn.Conv, nn.BatchNorm)
# The values of a layer's attributes with which it multiplies by its kernel alone.
_KNOWN = {
    "promote_dtype": (promote_dtype, own.promote),
    "dot_general": (None, lax.dot_general),
    "dot_general_cls": (None,),
    "conv_general_dilated": (
        *(None, lax.conv_general_dilated, own.conv_general_dilated),
    ),
    "conv_general_dilated_cls": (None,),
    "mask": (None,),
}


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
    model: nn.Module,
    variables: Any,
    images: Any,
    replace: Callable[..., Array],
    *,
    strict: bool = False,
) -> Any:
    """Run a model; replace each layer's output by `replace(module, name, x, y)`.

    If `strict`, reject layers that may compute more than the product with their kernel.
    """
    calls: dict[str, int] = {}
    running: list[nn.Module] = []

    def _intercept(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        # A subclass may call the layer that it extends, which is no second layer.
        inner = any(module is other for other in running)
        called = context.method_name == "__call__" and isinstance(module, _LINEAR)
        if inner or not called:
            return next_fun(*args, **kwargs)
        running.append(module)
        y = next_fun(*args, **kwargs)
        running.pop()
        name = "/".join(module.path)
        calls[name] = calls.get(name, 0) + 1
        label = name if calls[name] == 1 else f"{name}#{calls[name]}"
        if strict:
            _check_known(module, label, next_fun is context.orig_method)
        x = args[0] if args else kwargs.get("inputs", kwargs.get("x"))
        return replace(module, label, x, y)

    with nn.intercept_methods(_intercept):
        return model.apply(variables, images)


def _check_known(module: nn.Module, name: str, untouched: bool) -> None:
    """Raise `ValueError` unless a layer is known to multiply by its own kernel."""
    if not all(map(is_concrete, jax.tree.leaves(module.variables))):
        raise ValueError(
            f"The weights of layer {name!r} must be known where it is called, got "
            "traced ones; take the model without `nn.remat`, `nn.jit` or `nn.scan`, "
            "and store the weights that `nn.WeightNorm` or `nn.map_variables` computes."
        )
    kind = next(kind.__name__ for kind in _LINEAR if isinstance(module, kind))
    cure = f"compute what it adds to `nn.{kind}` in the module that calls it."
    if type(module) not in _LINEAR:
        raise ValueError(
            f"Layer {name!r} must be exactly `nn.{kind}` to be bounded, got its "
            f"subclass `{type(module).__name__}`; {cure}"
        )
    if not untouched:
        raise ValueError(
            f"Layer {name!r} must run as it is to be bounded, got one whose calls "
            "`nn.intercept_methods` changes; bound the model without it."
        )
    for attribute, known in _KNOWN.items():
        value = getattr(module, attribute, known[0])  # no layer has all of them
        if not any(value is each for each in known):
            raise ValueError(
                f"Layer {name!r} must have the `{attribute}` of Flax to be bounded, "
                f"got {getattr(value, '__name__', type(value).__name__)}; {cure}"
            )
    dtype = getattr(module, "dtype", None)
    if dtype is not None and not is_precise(dtype):
        raise ValueError(
            f"Layer {name!r} must compute in floats of 16 bits or more to be bounded, "
            f"got {jnp.dtype(dtype)}."
        )


def is_precise(dtype: Any) -> bool:
    """Return whether a conversion to `dtype` only rounds, to 16 bits or more."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 16


def _weight(module: nn.Module, collection: str, name: str) -> np.ndarray:
    """Return a weight as the layer uses it: in its precision, then in double."""
    weight = np.asarray(nn.meta.unbox(module.variables)[collection][name])
    # Flax widens other dtypes, which changes no value.
    rounded = None if isinstance(module, nn.BatchNorm) else module.dtype
    weight = weight if rounded is None else weight.astype(rounded)
    if np.iscomplexobj(weight) or not np.isfinite(weight.astype(np.float64)).all():
        label = "/".join(module.path)
        raise ValueError(
            f"The {name} of layer {label!r} must be real and finite to be bounded, got "
            f"{weight.dtype}, NaN or infinity."
        )
    return weight.astype(np.float64)


def bound_layer(module: nn.Module, name: str, shape: Sequence[int]) -> Layer:
    """Bound the norm of a layer with known weights; `shape` is that of its input."""
    if isinstance(module, nn.BatchNorm):  # multiplies by `scale / sqrt(var + eps)`
        variance = _weight(module, "batch_stats", "var")
        factors = 1 / np.sqrt(variance + module.epsilon)
        if module.use_scale:
            factors = factors * _weight(module, "params", "scale")
        bound = float(np.abs(factors).max())
        return Layer(name, "batch_norm", str(factors.size), 1, bound, bound)
    kernel = _weight(module, "params", "kernel")
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
    if kernel.ndim != 4 or groups != 1 or inputs != (1, 1):
        raise ValueError(
            f"Convolution {name!r} must have two axes, one group and no input dilation "
            f"to be bounded, got a kernel {list(kernel.shape)}, {groups} groups and "
            f"dilation {inputs}."
        )
    maps_in, maps_out = kernel.shape[2:]
    size = "x".join(map(str, (maps_in, *kernel.shape[:2], maps_out)))
    kernel, grid = norms.dilate(kernel, dilation), shape[-3:-1]
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
    return _layer_values(model, variables, to_float(images))


@partial(jax.jit, static_argnames="model")
def _layer_values(model: nn.Module, variables: Any, images: Array) -> OrderedDict:
    """Return the values of `layer_values`; `jit` would sort the keys of a dict."""
    values = OrderedDict()

    def _keep(_: nn.Module, name: str, x: Array, y: Array) -> Array:
        values[name] = (x, y)
        return y

    intercept_layers(model, variables, images, _keep)
    return values
