"""Train states: pytrees of the arrays that a resumed run needs, and no others.

`step`, int32, counts the steps made so far. `key` is the typed PRNG key of the run. If
step i draws, it uses `fold_in(key, i)`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import struct

from advgan_jax.types import Array, Params


class ModelState(struct.PyTreeNode):
    """The weights and the optimiser's state of one network in training."""

    params: Params
    opt_state: optax.OptState

    def updated(
        self, gradients: Params, optimizer: optax.GradientTransformation
    ) -> "ModelState":
        """Return the state after one step of the optimiser along `gradients`."""
        updates, opt_state = optimizer.update(gradients, self.opt_state, self.params)
        return ModelState(optax.apply_updates(self.params, updates), opt_state)


class ClassifierState(struct.PyTreeNode):
    """A classifier in training; `batch_stats` may be empty."""

    step: Array
    key: Array
    model: ModelState
    batch_stats: Params

    @property
    def variables(self) -> dict[str, Params]:
        """Return the variables for the module's `apply` at inference."""
        stats = {"batch_stats": self.batch_stats} if self.batch_stats else {}
        return {"params": self.model.params, **stats}


class AdvGANState(struct.PyTreeNode):
    """An AdvGAN or AI-GAN in training; the target model is not part of it."""

    step: Array
    key: Array
    generator: ModelState
    discriminator: ModelState


class BlackBoxState(struct.PyTreeNode):
    """An AdvGAN and the distilled model that it is trained against.

    `queries`, int32 `[R]`, is the total number of queries after each series of queries,
    and 0 for a future one. The ledger of the oracle contains the images and answers.
    """

    advgan: AdvGANState
    distilled: ClassifierState
    queries: Array

    @property
    def step(self) -> int:
        """Return the steps made so far, of both."""
        # Summed on the host: during a run the two may be on different devices.
        return int(self.advgan.step) + int(self.distilled.step)


def init_model(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: Array,
    *inputs: Array,
) -> tuple[ModelState, Params]:
    """Initialise weights and optimiser state, and batch statistics (may be empty)."""
    variables = module.init(key, *inputs)
    params = variables["params"]
    return ModelState(params, optimizer.init(params)), variables.get("batch_stats", {})


def apply(module: nn.Module, params: Params, *inputs: Array, **options: Any) -> Any:
    """Apply a module with these weights, and no other variables."""
    return module.apply({"params": params}, *inputs, **options)


def first_step() -> Array:
    """Return the step counter of a fresh state."""
    return jnp.zeros((), jnp.int32)
