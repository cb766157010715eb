"""Mixed precision: networks that multiply in bfloat16 and do all else in float32.

The products of convolutions and dense layers, forwards and backwards, take in numbers
of eight bits, which the matrix units of accelerators are made for. Biases,
normalisations, activations, weights, their gradients and running statistics are
float32. bfloat16 has its exponents, so losses need no scaling.

It is the kernels that are cast, and the layers of `advgan_jax.cpu.layers` that cast their
inputs to them. Flax' own would cast both to float32 again; networks of those are
refused.

References:
  Micikevicius et al., 2018 (https://arxiv.org/abs/1710.03740), Sec. 3.1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from advgan_jax.cpu import layers
from advgan_jax.types import Array, LogitsFn, Params


class MixedPrecision(nn.Module):
    """A network of the same weights that multiplies in bfloat16.

    Its weights have the names, and at the start the values, of the network's own: one
    takes the other's place at any time.

    Attributes:
      module: the network, of layers of `advgan_jax.cpu.layers`.
    """

    module: nn.Module

    def setup(self):
        """Makes its weights the network's own."""
        nn.share_scope(self, self.module)

    def __call__(self, *inputs: Array, **options: Any) -> Any:
        """As the network's; what comes out is float32."""
        if self.is_initializing():  # weights are made there, not cast
            return self.module(*inputs, **options)

        def call(module, *inputs):
            return module(*inputs, **options)

        run = nn.map_variables(call, "params", trans_in_fn=_lower_kernels)
        with nn.intercept_methods(_refuse_other_layers):
            return _to_float32(run(self.module, *inputs))


def lower_precision(logits_fn: LogitsFn) -> LogitsFn:
    """A frozen model that multiplies in bfloat16.

    Args:
      logits_fn: a pytree with its weights, see `models.make_logits_fn`; or several such
        as one.

    Returns:
      `images [B, H, W, C] -> logits [B, K]`, float32 both.

    Raises:
      ValueError: if no leaf of the pytree is a kernel; when it is called, if a layer is
        not of `advgan_jax.cpu.layers`.
    """
    _lower_kernels(logits_fn)  # refuses it here rather than within a step
    return Partial(_apply_lowered, logits_fn)


def _apply_lowered(logits_fn: LogitsFn, images: Array) -> Array:
    # Cast in each step, for what is kept, and passed to it, is float32.
    lowered = _lower_kernels(logits_fn)
    with nn.intercept_methods(_refuse_other_layers):
        return _to_float32(lowered(images))


def _lower_kernels(tree: Params) -> Params:
    def is_kernel(path):
        return bool(path) and getattr(path[-1], "key", None) == "kernel"

    if not any(is_kernel(path) for path, _ in jax.tree.leaves_with_path(tree)):
        raise ValueError(
            "Expected a network with kernels among its weights, got none; a function "
            "needs them in its pytree, see `models.make_logits_fn`."
        )
    return jax.tree.map_with_path(
        lambda path, leaf: leaf.astype(jnp.bfloat16) if is_kernel(path) else leaf, tree
    )


def _refuse_other_layers(method, arguments, options, context):
    """Wraps each method of each layer while a network is traced."""
    module = context.module
    if hasattr(module, "kernel_init") and module.promote_dtype is not layers.promote:
        raise ValueError(
            "Mixed precision is for layers of `advgan_jax.cpu.layers`, got "
            f"`{type(module).__name__}` of Flax, which would compute in float32; use "
            "`layers.Conv` and `layers.Dense`."
        )
    return method(*arguments, **options)


def _to_float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
