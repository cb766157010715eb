"""Mixed precision: models that multiply in bfloat16 and compute the rest in float32.

The operands of convolutions and dense layers, forward and backward, are bfloat16.
Accelerators have matrix units for it. Everything else is float32: biases,
normalisations, activations, weights, their gradients and running statistics. bfloat16
has float32's range, so losses need no scaling.

The kernels are cast, and the layers of `advgan_jax.cpu.layers` cast their inputs to
them. Flax's own layers would cast both to float32, so they are rejected.

References:
  Micikevicius et al., 2018 (https://arxiv.org/abs/1710.03740), Sec. 3.1.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from advgan_jax.cpu import layers
from advgan_jax.types import Array, LogitsFn, Params


class MixedPrecision(nn.Module):
    """A network that multiplies in bfloat16, with layers of `advgan_jax.cpu.layers`.

    Weights have the names and initial values of `module`'s own, so the two are
    interchangeable at any time.
    """

    module: nn.Module

    def setup(self) -> None:
        """Share the weights of the network."""
        nn.share_scope(self, self.module)

    def __call__(self, *inputs: Array, **options: Any) -> Any:
        """Apply the network; the outputs are float32."""
        if self.is_initializing():  # creates weights, without a cast
            return self.module(*inputs, **options)

        def _call(module: nn.Module, *inputs: Array) -> Any:
            return module(*inputs, **options)

        run = nn.map_variables(_call, "params", trans_in_fn=_lower_kernels)
        with nn.intercept_methods(_reject_other_layers):
            return _to_float32(run(self.module, *inputs))


def lower_precision(logits_fn: LogitsFn) -> LogitsFn:
    """Make a frozen model multiply in bfloat16; its logits are float32.

    `logits_fn` is a pytree with its weights, see `models.make_logits_fn`, or a
    combination of several.

    Raises:
      ValueError: if no leaf of the pytree is a kernel; at a call, if a layer is not of
        `advgan_jax.cpu.layers`.
    """
    _lower_kernels(logits_fn)  # raise here rather than within a step
    return Partial(_apply_lowered, logits_fn)


def _apply_lowered(logits_fn: LogitsFn, images: Array) -> Array:
    """Cast the kernels in each call, because the stored ones are float32."""
    lowered = _lower_kernels(logits_fn)
    with nn.intercept_methods(_reject_other_layers):
        return _to_float32(lowered(images))


def _lower_kernels(tree: Params) -> Params:
    """Cast all kernels of a pytree to bfloat16."""

    def _is_kernel(path: tuple[Any, ...]) -> bool:
        return bool(path) and getattr(path[-1], "key", None) == "kernel"

    if not any(_is_kernel(path) for path, _ in jax.tree.leaves_with_path(tree)):
        raise ValueError(
            "Expected a network with kernels among its weights, got none; a function "
            "needs them in its pytree, see `models.make_logits_fn`."
        )
    return jax.tree.map_with_path(
        lambda path, leaf: leaf.astype(jnp.bfloat16) if _is_kernel(path) else leaf, tree
    )


def _reject_other_layers(
    method: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Check each layer whose method is called while a network is traced."""
    module = context.module
    if hasattr(module, "kernel_init") and module.promote_dtype is not layers.promote:
        raise ValueError(
            "Mixed precision is for layers of `advgan_jax.cpu.layers`, got "
            f"`{type(module).__name__}` of Flax, which would compute in float32; use "
            "`layers.Conv` and `layers.Dense`."
        )
    return method(*arguments, **options)


def _to_float32(tree: Any) -> Any:
    """Cast all leaves."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
