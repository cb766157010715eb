"""Mixed precision: networks that compute in another dtype than that of their weights.

In bfloat16 an accelerator's matrix units are several times as fast as in float32, and
arrays take half the memory. It has float32's exponents, so losses need no scaling. What
is between the layers gets eight bits of precision; weights, their gradients, running
statistics and whatever goes in and out of the network remain float32.

References:
  Micikevicius et al., 2018 (https://arxiv.org/abs/1710.03740), Sec. 3.1.
"""

from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import DTypeLike

from advgan_jax.types import Array, LogitsFn


class MixedPrecision(nn.Module):
    """A network whose layers compute in another dtype than that of its weights.

    Its weights have the names, and at the start the values, of the network's own: one
    takes the other's place at any time.

    Attributes:
      module: the network.
      dtype: in which it computes, `jnp.bfloat16`.
    """

    module: nn.Module
    dtype: DTypeLike

    def setup(self):
        """Makes its weights the network's own."""
        nn.share_scope(self, self.module)

    def __call__(self, *inputs: Array, **options: Any) -> Any:
        """As the network's; what comes out is float32."""
        if self.is_initializing():
            return _cast(self.module(*inputs, **options), jnp.float32)

        def call(module, *inputs):
            return module(*inputs, **options)

        to_dtype = partial(_cast, dtype=self.dtype)
        run = nn.map_variables(call, "params", trans_in_fn=to_dtype)
        return _cast(run(self.module, *to_dtype(inputs)), jnp.float32)


def compute_in(logits_fn: LogitsFn, dtype: DTypeLike) -> LogitsFn:
    """A frozen model that computes in another dtype.

    Args:
      logits_fn: `images -> logits`; if it is a pytree (see `models.make_logits_fn`) its
        weights are cast too, else only the images are, and what then happens is its
        own.
      dtype: in which it computes, `jnp.bfloat16`.

    Returns:
      `images [B, H, W, C] -> logits [B, K]`, float32 both.
    """
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(logits_fn)):
        logits_fn = Partial(logits_fn)
    return Partial(_computing_in(jnp.dtype(dtype)), logits_fn)


@cache
def _computing_in(dtype):
    """One function object per dtype, so that `jit` sees the same one again."""

    def apply(logits_fn, images):
        # Within the step that calls: the model is kept, and passed, in float32.
        return _cast(_cast(logits_fn, dtype)(_cast(images, dtype)), jnp.float32)

    return apply


def _cast(tree: Any, dtype: DTypeLike) -> Any:
    def to(leaf):
        real = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return leaf.astype(dtype) if real else leaf

    return jax.tree.map(to, tree)
