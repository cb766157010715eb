"""Loops that are fast on every platform.

`loop_ready` prepares a model for calls inside a loop. On CPU it replaces convolutions
and max-pools by those of `layers`, whose gradients do not slow down inside `scan` and
`while` (jax-ml/jax#12868). So most Flax models are as fast inside a compiled loop as
outside. Some parts stay slow: grouped convolutions, dilated kernels, pools that overlap
or are padded, and the contents of the model's own loops, `remat` and custom gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from advgan_jax.cpu import layers
from advgan_jax.types import Array, LogitsFn

Carry = TypeVar("Carry")

_NUM_LANES_CPU = 16
# 256 images of MNIST: the output of a layer is still in the cache for the next.
_BLOCK_PIXELS_CPU = 256 * 28 * 28


def repeat(step: Callable[[Carry], Carry], carry: Carry, num_steps: int) -> Carry:
    """Apply a pure `step` to a carry `num_steps` times; return the last carry."""
    return lax.scan(lambda c, _: (step(c), None), carry, length=num_steps)[0]


def num_lanes(num_problems: int) -> int:
    """Return how many problems of different length a loop solves side by side.

    It is at most 16 on a CPU, where the time grows with the batch. More lanes would
    idle longer at the end, and fewer would use the cores less. There 20 problems of one
    length fill 10 lanes twice; 16 lanes would do the work of 32. Elsewhere each of the
    `num_problems` has its own lane.
    """
    if jax.default_backend() != "cpu" or num_problems <= _NUM_LANES_CPU:
        return num_problems
    num_rounds = -(-num_problems // _NUM_LANES_CPU)
    return -(-num_problems // num_rounds)


def in_blocks(fn: Callable[..., Array], images: Array, *others: Array) -> Array:
    """Apply a function of a batch; on CPU, block by block to a large batch.

    `fn(images, *others)` must treat each row of its arrays `[B, ...]` independently.
    """
    batch, height, width = images.shape[:3]
    # A program exported for batches of any size does not split them.
    if jax.default_backend() != "cpu" or not isinstance(batch, int):
        return fn(images, *others)
    most = max(1, _BLOCK_PIXELS_CPU // (height * width))
    least = -(-batch // most)
    if least <= 1:
        return fn(images, *others)
    # Up to four times as many, if they divide evenly over the devices.
    several = range(least, 4 * least)
    fitting = (n for n in several if batch % (n * jax.device_count()) == 0)
    num_blocks = next(fitting, least)
    size = -(-batch // num_blocks)

    # All blocks have one size, because each size is compiled.
    def _split(array: Array) -> Array:
        padding = [(0, num_blocks * size - batch)] + [(0, 0)] * (array.ndim - 1)
        rows = jnp.pad(array, padding).reshape(size, num_blocks, *array.shape[1:])
        # Strided rows: blocks of neighbours would be gathered if the batch is sharded.
        return rows.swapaxes(0, 1)

    results = lax.map(lambda block: fn(*block), tuple(map(_split, (images, *others))))
    return results.swapaxes(0, 1).reshape(-1, *results.shape[2:])[:batch]


def loop_ready(logits_fn: LogitsFn) -> LogitsFn:
    """Return the same function, with gradients that are fast inside compiled loops.

    On CPU, traces the function of one array and replaces the convolutions and max-pools
    that have an equivalent in `layers`. Values and gradients are the same. On other
    platforms, returns the function unchanged.
    """
    if jax.default_backend() != "cpu":
        return logits_fn

    def _ready(images: Array) -> Array:
        closed, out = jax.make_jaxpr(logits_fn, return_shape=True)(images)
        values = _evaluate(closed.jaxpr, closed.consts, [images])
        return jax.tree.unflatten(jax.tree.structure(out), values)

    return _ready


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Evaluate a jaxpr, equation by equation, with the replacements."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def _read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [_read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [_read(atom) for atom in jaxpr.outvars]


def _apply(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
    """Evaluate one equation, or its replacement."""
    name, params = equation.primitive.name, equation.params
    # Inlines plain calls only: custom gradients and the model's own loops stay.
    if name in ("jit", "pjit", "closed_call"):
        inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
        return _evaluate(inner.jaxpr, inner.consts, operands)
    if name == "conv_general_dilated" and params.get("out_sharding") is None:
        known = {k: v for k, v in params.items() if k != "out_sharding"}
        return [layers.conv_general_dilated(*operands, **known)]
    if name == "reduce_window_max" and _is_square_pool(operands[0], params):
        return [layers.max_pool(operands[0], params["window_dimensions"][1])]
    bound = equation.primitive.get_bind_params(params)
    results = equation.primitive.bind(*operands, **bound)
    return list(results) if equation.primitive.multiple_results else [results]


def _is_square_pool(x: Array, params: dict[str, Any]) -> bool:
    """Return whether `layers.max_pool` is equivalent: no overlap, squares, `NHWC`."""
    window = tuple(params["window_dimensions"])
    return (
        len(window) == 4
        and window == tuple(params["window_strides"])
        and window[0] == window[3] == 1
        and window[1] == window[2]
        and window[1] <= min(x.shape[1:3])
        and all(pad == (0, 0) for pad in params["padding"])
        and set(params["base_dilation"]) == set(params["window_dilation"]) == {1}
    )
