r"""An upper bound of a model's Lipschitz constant, from its traced program.

The module follows the operations of the model in order:

- a linear layer stretches by at most its norm (`norms`), a ReLU, a tanh or a shift by
  1, a sigmoid by 1/4, a constant factor by its absolute value;
- a sum of two branches, such as those of a residual block, stretches by at most the sum
  of their bounds, and a mean over n entries by `n^{-1/2}`;
- a max-pool stretches by at most the root of the number of windows that cover a pixel.

Any other operation is rejected, and so is a layer that may compute anything but the
product with its own kernel. No bound is silently too small. Bounds are those of exact
arithmetic: the rounding of float32, bfloat16 or float16 comes on top.

A max-pool may consist of maxima of slices. Each array therefore records on which
entries of an earlier array (its root) each of its entries depends. The number of uses
of an entry then bounds the pool.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Primitive

from advgan_jax.analysis import _layers
from advgan_jax.types import Array


class LipschitzBounds(NamedTuple):
    """Upper bounds of the linear layers, in the order of their calls, and of the model.

    `network` bounds the L2 change of the logits, relative to that of the image.
    """

    layers: tuple[_layers.Layer, ...]
    network: float


class _Dependent(NamedTuple):
    """An array that depends on the image.

    Entry j changes by at most `scale` times the largest change among the entries
    `part[j]` of its root, over all `parts`. `bound` relates the root to the image.
    """

    root: object
    bound: float
    scale: float
    parts: tuple[np.ndarray, ...]

    def total(self) -> float:
        """Return the bound of this array, relative to the image."""
        used = np.bincount(np.concatenate([part.ravel() for part in self.parts]))
        return self.bound * self.scale * math.sqrt(used.max(initial=0))


def _new_root(bound: float, shape: Sequence[int]) -> _Dependent:
    """Return an array that is its own root."""
    every = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    return _Dependent(object(), bound, 1.0, (every,))


# These run their inner program once; `scan` and others run it several times.
_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "custom_jvp_call"),
    *("custom_vjp_call", "custom_vjp_call_jaxpr", "checkpoint", "remat", "remat2"),
)

# Represents a linear layer in the traced program; it is never run.
_layer = Primitive("linear_layer")
_layer.def_abstract_eval(lambda x, *, bound, shape: x.update(shape=shape))


def upper_bounds(
    model: nn.Module, variables: Any, image_shape: Sequence[int]
) -> LipschitzBounds:
    """Bound each linear layer of a model, and the whole model.

    Args:
      model: any Flax module that takes only images at inference.
      variables: its weights, as `init` returns them.
      image_shape: `(H, W, C)`.

    Raises:
      ValueError: if an operation or a layer has no known bound; names it.
    """
    found: list[_layers.Layer] = []

    def _mark(module: nn.Module, name: str, x: Array, y: Array) -> Array:
        found.append(_layers.bound_layer(module, name, x.shape))
        return _layer.bind(x, bound=found[-1].bound, shape=y.shape)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    run = partial(
        _layers.intercept_layers, model, variables, replace=_mark, strict=True
    )
    closed = jax.make_jaxpr(run)(image)
    (logits,) = _follow(closed.jaxpr, closed.consts, [_new_root(1.0, image.shape)])
    network = logits.total() if isinstance(logits, _Dependent) else 0.0  # a constant
    if not math.isfinite(network):
        raise _unbounded("A division by zero, or a constant that is not finite,")
    return LipschitzBounds(tuple(found), network)


def _follow(jaxpr: Jaxpr, consts: Sequence, args: Sequence) -> list:
    """Follow a program whose values are arrays (constants) or `_Dependent`."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def _read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in _needed(jaxpr):
        results = _apply(equation, [_read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [_read(atom) for atom in jaxpr.outvars]


def _apply(equation: JaxprEqn, operands: list) -> list:
    """Follow one operation and return its results."""
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
        consts = getattr(inner, "consts", ())
        return _follow(getattr(inner, "jaxpr", inner), consts, operands)
    if not any(isinstance(x, _Dependent) for x in operands):
        bound = equation.primitive.get_bind_params(params)
        results = equation.primitive.bind(*operands, **bound)
        return list(results) if equation.primitive.multiple_results else [results]
    if name not in _RULES:
        raise _unbounded(f"The operation `{name}`")
    return [_RULES[name](equation, *operands)]


def _unbounded(what: str) -> ValueError:
    """Return the error for an operation without a known bound."""
    return ValueError(
        f"{what} has no known Lipschitz bound, so the model cannot be bounded; it may "
        "have dense and convolution layers, batch normalisation, ReLU, tanh, sigmoid, "
        "max-pools, means and sums of branches."
    )


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Return the equations on which the outputs depend, without those in layers."""
    wanted = {id(v) for v in jaxpr.outvars}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if any(id(v) in wanted for v in equation.outvars):
            wanted.update(id(v) for v in equation.invars)
            kept.append(equation)
    return kept[::-1]


def _shape(equation: JaxprEqn) -> tuple[int, ...]:
    """Return the shape of the result of an operation."""
    result: Any = equation.outvars[0].aval
    return result.shape


def _entrywise(factor: float) -> Callable:
    """Return the rule of an entrywise function that stretches by at most `factor`."""

    def _rule(equation: JaxprEqn, *operands: Any) -> _Dependent:
        followed = [x for x in operands if isinstance(x, _Dependent)]
        if len(followed) != 1:
            name = equation.primitive.name
            raise _unbounded(f"`{name}` of several values that depend on the image")
        x = _spread(followed[0], equation)
        return x._replace(scale=factor * x.scale)

    return _rule


def _converted(equation: JaxprEqn, x: _Dependent) -> _Dependent:
    """Accept other precisions; rounding to integers or to 8 bits has no bound."""
    dtype = equation.params["new_dtype"]
    if _layers.is_precise(dtype):
        return _entrywise(1.0)(equation, x)
    raise _unbounded(f"Rounding what depends on the image to {dtype}")


def _rearranged(equation: JaxprEqn, x: _Dependent) -> _Dependent:
    """Move, drop or repeat the indices like the entries."""
    bound = equation.primitive.get_bind_params(equation.params)
    moved = (equation.primitive.bind(jnp.asarray(p), **bound) for p in x.parts)
    return x._replace(parts=tuple(map(np.asarray, moved)))


def _spread(x: Any, equation: JaxprEqn) -> Any:
    """Repeat a scalar operand for each entry of the result."""
    if not isinstance(x, _Dependent):
        return x
    shape = _shape(equation)
    return x._replace(parts=tuple(np.broadcast_to(part, shape) for part in x.parts))


def _sum(equation: JaxprEqn, x: Any, y: Any) -> _Dependent:
    """Add the bounds of two branches; a constant changes nothing."""
    x, y = _spread(x, equation), _spread(y, equation)
    if isinstance(x, _Dependent) and isinstance(y, _Dependent):
        return _new_root(x.total() + y.total(), _shape(equation))
    return x if isinstance(x, _Dependent) else y


def _product(equation: JaxprEqn, x: Any, y: Any) -> _Dependent:
    """Multiply by the largest absolute value of a constant."""
    if isinstance(x, _Dependent) and isinstance(y, _Dependent):
        raise _unbounded("A product of two values that depend on the image")
    branch, factor = (x, y) if isinstance(x, _Dependent) else (y, x)
    return _entrywise(float(jnp.max(jnp.abs(factor))))(equation, branch)


def _quotient(equation: JaxprEqn, x: Any, y: Any) -> _Dependent:
    """Divide by a constant."""
    if isinstance(y, _Dependent):
        raise _unbounded("Division or normalisation by an image-dependent value")
    return _product(equation, x, 1 / jnp.asarray(y))


def _maximum(equation: JaxprEqn, x: Any, y: Any) -> _Dependent:
    """Join the parts of arrays with one root; else combine the bounds in L2."""
    if not (isinstance(x, _Dependent) and isinstance(y, _Dependent)):
        return _sum(equation, x, y)  # with a constant: a ReLU
    x, y = _spread(x, equation), _spread(y, equation)
    if x.root is y.root:
        return x._replace(scale=max(x.scale, y.scale), parts=x.parts + y.parts)
    return _new_root(math.hypot(x.total(), y.total()), _shape(equation))


def _reduced_sum(equation: JaxprEqn, x: _Dependent) -> _Dependent:
    """Multiply by the root of the number of added entries."""
    count = x.parts[0].size / max(math.prod(_shape(equation)), 1)
    return _new_root(x.total() * math.sqrt(count), _shape(equation))


def _window_max(equation: JaxprEqn, x: _Dependent) -> _Dependent:
    """Multiply by the root of the number of windows that cover an entry."""
    params = equation.params
    window, strides = params["window_dimensions"], params["window_strides"]
    if {*params["base_dilation"], *params["window_dilation"]} != {1}:
        raise _unbounded("A pool with dilation")
    cover = math.prod(-(-w // s) for w, s in zip(window, strides, strict=True))
    return _new_root(x.total() * math.sqrt(cover), _shape(equation))


def _same(equation: JaxprEqn, x: Any, value: Any = None) -> _Dependent:
    """Keep the bound: a maximum uses entries once, and padding must be constant."""
    if isinstance(value, _Dependent):
        raise _unbounded("Padding with a value that depends on the image")
    return _new_root(x.total(), _shape(equation))


_RULES: dict[str, Callable] = {
    "linear_layer": lambda e, x: _new_root(x.total() * e.params["bound"], _shape(e)),
    **dict.fromkeys(("neg", "abs", "tanh", "copy", "clamp", "sin"), _entrywise(1.0)),
    "stop_gradient": _entrywise(1.0),
    "convert_element_type": _converted,
    "logistic": _entrywise(0.25),
    **dict.fromkeys(("reshape", "transpose", "squeeze", "slice", "rev"), _rearranged),
    "broadcast_in_dim": _rearranged,
    **dict.fromkeys(("add", "sub"), _sum),
    "mul": _product,
    "div": _quotient,
    **dict.fromkeys(("max", "min"), _maximum),
    "reduce_sum": _reduced_sum,
    **dict.fromkeys(("reduce_max", "reduce_min", "pad"), _same),
    "reduce_window_max": _window_max,
}
