"""How loops run: the one place that knows which loop is fast on which platform.

A large batch of a network with few channels does not fit a CPU's caches: there it goes
through the network `in_blocks`.

A model that is called in a loop is first made `loop_ready`: on CPU its convolutions
and max-pools are swapped for those of `layers`, whose gradients do not slow down
inside `scan` and `while` (jax-ml/jax#12868). So a user's stock Flax model runs as fast
inside a compiled loop as outside of one. Left as they are, and slow there: grouped
convolutions and such with a dilated kernel, pools that overlap or are padded, and
whatever stands within loops, `remat` or custom gradients of the model's own.
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
# 256 images of MNIST: what a block computes in one layer is still near in the next.
_BLOCK_PIXELS_CPU = 256 * 28 * 28


def repeat(step: Callable[[Carry], Carry], carry: Carry, num_steps: int) -> Carry:
    """Applies `step` to `carry` again and again.

    Args:
      step: a pure function of the carry.
      carry: a pytree of arrays.
      num_steps: how often, a Python integer >= 0.

    Returns:
      The last carry.
    """
    return lax.scan(lambda c, _: (step(c), None), carry, length=num_steps)[0]


def num_lanes(num_problems: int) -> int:
    """How many of many problems a loop works on side by side.

    Args:
      num_problems: of different length, such as the images of an attack.

    Returns:
      At most 16 on CPU, where a larger batch takes longer in proportion: more lanes
      idle longer at the end, when no problem waits, and fewer use the cores worse.
      Elsewhere a lane for each problem.
    """
    on_cpu = jax.default_backend() == "cpu"
    return min(num_problems, _NUM_LANES_CPU) if on_cpu else num_problems


def in_blocks(fn: Callable[..., Array], images: Array, *others: Array) -> Array:
    """Applies a function of a batch, on CPU to a large batch block by block.

    Args:
      fn: `(images, *others) -> results`, which treats each image alone.
      images: `[B, H, W, C]`.
      *others: arrays `[B, ...]`, such as labels.

    Returns:
      `fn(images, *others)`, `[B, ...]`.
    """
    batch, height, width = images.shape[:3]
    # Where a program is exported for batches of any size, they stay whole.
    if jax.default_backend() != "cpu" or not isinstance(batch, int):
        return fn(images, *others)
    most = max(1, _BLOCK_PIXELS_CPU // (height * width))
    least = -(-batch // most)
    if least <= 1:
        return fn(images, *others)
    # Some more blocks, if then every device has as many rows of each.
    several = range(least, 4 * least)
    fitting = (n for n in several if batch % (n * jax.device_count()) == 0)
    num_blocks = next(fitting, least)
    size = -(-batch // num_blocks)

    def cut(array):
        # Even blocks: one for what is left over would be compiled as another program.
        padding = [(0, num_blocks * size - batch)] + [(0, 0)] * (array.ndim - 1)
        rows = jnp.pad(array, padding).reshape(size, num_blocks, *array.shape[1:])
        # Were neighbours in a block, it would have to be gathered where the batch lies
        # on several devices.
        return rows.swapaxes(0, 1)

    results = lax.map(lambda block: fn(*block), tuple(map(cut, (images, *others))))
    return results.swapaxes(0, 1).reshape(-1, *results.shape[2:])[:batch]


def loop_ready(logits_fn: LogitsFn) -> LogitsFn:
    """The same function, with gradients that are fast inside compiled loops.

    On CPU the function is traced and its convolutions and max-pools are replaced,
    where `layers` has an equal; all else, and all on other platforms, stays as it is.

    Args:
      logits_fn: any JAX function of one array.

    Returns:
      A function of the same values and gradients (see `layers.max_pool` for ties).
    """
    if jax.default_backend() != "cpu":
        return logits_fn

    def ready(images: Array) -> Array:
        closed, out = jax.make_jaxpr(logits_fn, return_shape=True)(images)
        values = _evaluate(closed.jaxpr, closed.consts, [images])
        return jax.tree.unflatten(jax.tree.structure(out), values)

    return ready


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Runs a jaxpr, equation by equation, with the replacements."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    # Nested functions are looked into only where nothing but a call is lost: a
    # custom gradient stays its author's, a model's own loop stays a loop.
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
    """Whether `layers.max_pool` computes the same: squares without overlap, `NHWC`."""
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
