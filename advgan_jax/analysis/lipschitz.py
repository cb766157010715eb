r"""An upper bound of a model's Lipschitz constant, from the program that it is.

The model is traced and its operations are followed in order. Each linear layer
stretches by at most its norm (`layers`); a ReLU, a tanh, a shift not at all, a sigmoid
by 1/4, a factor by itself; a sum of two branches, such as a residual block's, by at
most the sum of theirs; a mean over n by `n^{-1/2}`. A max-pool is contractive, and by
overlapping windows stretches by at most the root of how often they cover a pixel.
Whatever is not known to be bounded is refused, so no bound is silently too small.

The parts of a pool are recognised for what they are: maxima of entries of one array.
For each array the walk keeps of which entries of an earlier one (its root) each entry
is made, so that what is counted is how often an entry of the root is used.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Primitive

from advgan_jax.analysis import layers
from advgan_jax.analysis.layers import Layer


class Bounds(NamedTuple):
    """Upper bounds of a model.

    Attributes:
      layers: the linear layers in the order of their calls.
      network: of the whole model, L2 of the logits over L2 of the image.
    """

    layers: tuple[Layer, ...]
    network: float


class _Follows(NamedTuple):
    r"""An array that depends on the image.

    Entry j changes by at most `scale` times the largest change among the entries
    `part[j]` of the root, one for each part.
    """

    root: int
    bound: float  # of the root, relative to the image
    scale: float
    parts: tuple[np.ndarray, ...]

    def total(self) -> float:
        """Bound of this array relative to the image."""
        used = np.bincount(np.concatenate([part.ravel() for part in self.parts]))
        return self.bound * self.scale * math.sqrt(used.max(initial=0))


# Run what they hold once. Other operations hold programs too, such as `scan`, which
# runs its own many times over.
_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "custom_jvp_call"),
    *("custom_vjp_call", "custom_vjp_call_jaxpr", "checkpoint", "remat", "remat2"),
)

# Stands for a linear layer in the traced program; never run.
_layer = Primitive("linear_layer")
_layer.def_abstract_eval(lambda x, *, index, shape: x.update(shape=shape))


def upper_bounds(
    model: nn.Module, variables: Any, image_shape: Sequence[int]
) -> Bounds:
    """Bounds each linear layer of a model, and the model.

    Args:
      model: any Flax module that takes images alone at inference.
      variables: its weights, as `init` returns them.
      image_shape: `(H, W, C)`.

    Returns:
      The bounds.

    Raises:
      ValueError: if the model does something that has no known bound, names it.
    """
    found: list[Layer] = []

    def mark(module, name, x, y):
        found.append(layers.describe(module, name, x.shape))
        return _layer.bind(x, index=len(found) - 1, shape=y.shape)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    closed = jax.make_jaxpr(lambda x: layers.run_with(model, variables, x, mark))(image)
    walk = _Walk(found)
    start = walk.new_root(1.0, (1, *image_shape))
    (logits,) = walk.run(closed.jaxpr, closed.consts, [start])
    if not isinstance(logits, _Follows):
        return Bounds(tuple(found), 0.0)  # a constant
    return Bounds(tuple(found), logits.total())


class _Walk:
    """Follows a program; its values are arrays (constants) or `_Follows`."""

    def __init__(self, found: Sequence[Layer]):
        self.layers = found
        self.num_roots = 0

    def new_root(self, bound: float, shape: Sequence[int]) -> _Follows:
        self.num_roots += 1
        every = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
        return _Follows(self.num_roots, bound, 1.0, (every,))

    def run(self, jaxpr: Jaxpr, consts: Sequence, args: Sequence) -> list:
        values = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def read(atom):
            return atom.val if isinstance(atom, Literal) else values[atom]

        for equation in _needed(jaxpr):
            results = self.apply(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, equation: JaxprEqn, operands: list) -> list:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
            consts = getattr(inner, "consts", ())
            return self.run(getattr(inner, "jaxpr", inner), consts, operands)
        if not any(isinstance(x, _Follows) for x in operands):
            bound = equation.primitive.get_bind_params(params)
            results = equation.primitive.bind(*operands, **bound)
            return list(results) if equation.primitive.multiple_results else [results]
        if name not in _RULES:
            raise ValueError(
                f"The operation `{name}` has no Lipschitz bound that is known here, so "
                "the model cannot be bounded; it may have dense and convolution "
                "layers, batch normalisation, ReLU, tanh, sigmoid, max-pools, means "
                "and sums of branches."
            )
        return [_RULES[name](self, equation, *operands)]


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations that the outputs depend on; a layer's own are replaced by it."""
    wanted = {id(v) for v in jaxpr.outvars}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if any(id(v) in wanted for v in equation.outvars):
            wanted.update(id(v) for v in equation.invars)
            kept.append(equation)
    return kept[::-1]


def _linear_layer(walk: _Walk, equation: JaxprEqn, x: _Follows) -> _Follows:
    layer, shape = walk.layers[equation.params["index"]], equation.params["shape"]
    return walk.new_root(x.total() * layer.bound, shape)


def _entrywise(factor: float) -> Callable:
    """A function of each entry that stretches by at most `factor`."""

    def rule(walk: _Walk, equation: JaxprEqn, *operands) -> _Follows:
        del walk
        followed = [x for x in operands if isinstance(x, _Follows)]
        if len(followed) != 1:
            raise ValueError(
                f"`{equation.primitive.name}` of several values that depend on the "
                "image has no Lipschitz bound that is known here."
            )
        x = _spread(followed[0], equation)
        return x._replace(scale=factor * x.scale)

    return rule


def _converted(walk: _Walk, equation: JaxprEqn, x: _Follows) -> _Follows:
    """Another precision; steps, from rounding to integers, have no bound."""
    dtype = equation.params["new_dtype"]
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"Rounding what depends on the image to {dtype} has no Lipschitz bound."
        )
    return _entrywise(1.0)(walk, equation, x)


def _rearranged(walk: _Walk, equation: JaxprEqn, x: _Follows) -> _Follows:
    """Entries are only moved, left out or repeated; so are their indices."""
    del walk
    bound = equation.primitive.get_bind_params(equation.params)
    moved = (equation.primitive.bind(jnp.asarray(p), **bound) for p in x.parts)
    return x._replace(parts=tuple(map(np.asarray, moved)))


def _spread(x: Any, equation: JaxprEqn) -> Any:
    """A scalar beside an array stands for each of its entries, and counts so often."""
    if not isinstance(x, _Follows):
        return x
    shape = equation.outvars[0].aval.shape
    return x._replace(parts=tuple(np.broadcast_to(part, shape) for part in x.parts))


def _sum(walk: _Walk, equation: JaxprEqn, x: Any, y: Any) -> _Follows:
    x, y = _spread(x, equation), _spread(y, equation)
    if isinstance(x, _Follows) and isinstance(y, _Follows):
        return walk.new_root(x.total() + y.total(), equation.outvars[0].aval.shape)
    return x if isinstance(x, _Follows) else y


def _product(walk: _Walk, equation: JaxprEqn, x: Any, y: Any) -> _Follows:
    if isinstance(x, _Follows) and isinstance(y, _Follows):
        raise ValueError(
            "A product of two values that depend on the image has no Lipschitz bound."
        )
    branch, factor = (x, y) if isinstance(x, _Follows) else (y, x)
    return _entrywise(float(jnp.max(jnp.abs(factor))))(walk, equation, branch)


def _quotient(walk: _Walk, equation: JaxprEqn, x: Any, y: Any) -> _Follows:
    if isinstance(y, _Follows):
        raise ValueError(
            "A division by what depends on the image has no Lipschitz bound; "
            "normalisation over the image itself cannot be bounded."
        )
    return _product(walk, equation, x, 1 / jnp.asarray(y))


def _maximum(walk: _Walk, equation: JaxprEqn, x: Any, y: Any) -> _Follows:
    if not (isinstance(x, _Follows) and isinstance(y, _Follows)):
        return _sum(walk, equation, x, y)  # with a constant: a ReLU
    x, y = _spread(x, equation), _spread(y, equation)
    if x.root == y.root:
        return x._replace(scale=max(x.scale, y.scale), parts=x.parts + y.parts)
    bound = math.hypot(x.total(), y.total())
    return walk.new_root(bound, equation.outvars[0].aval.shape)


def _reduced_sum(walk: _Walk, equation: JaxprEqn, x: _Follows) -> _Follows:
    shape = equation.outvars[0].aval.shape
    count = x.parts[0].size / max(math.prod(shape), 1)
    return walk.new_root(x.total() * math.sqrt(count), shape)


def _reduced_max(walk: _Walk, equation: JaxprEqn, x: _Follows) -> _Follows:
    return walk.new_root(x.total(), equation.outvars[0].aval.shape)


def _window_max(walk: _Walk, equation: JaxprEqn, x: _Follows) -> _Follows:
    params = equation.params
    window, strides = params["window_dimensions"], params["window_strides"]
    dilated = (*params["base_dilation"], *params["window_dilation"])
    if set(dilated) != {1}:
        raise ValueError("A pool with dilation has no bound that is known here.")
    cover = math.prod(-(-w // s) for w, s in zip(window, strides, strict=True))
    bound = x.total() * math.sqrt(cover)
    return walk.new_root(bound, equation.outvars[0].aval.shape)


def _padded(walk: _Walk, equation: JaxprEqn, x: Any, value: Any) -> _Follows:
    if isinstance(value, _Follows):
        raise ValueError("Padding with what depends on the image has no known bound.")
    return walk.new_root(x.total(), equation.outvars[0].aval.shape)


_RULES: dict[str, Callable] = {
    "linear_layer": _linear_layer,
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
    **dict.fromkeys(("reduce_max", "reduce_min"), _reduced_max),
    "reduce_window_max": _window_max,
    "pad": _padded,
}
