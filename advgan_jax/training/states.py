"""Train states: the minimum that a resumed run needs.

A state is a pytree of arrays. Modules, optimisers and frozen models are not part of it:
step functions close over the first two and take the last as arguments.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import struct

from advgan_jax.types import Array, Params


class NetState(struct.PyTreeNode):
    """One network in training.

    Attributes:
      params: its weights.
      opt_state: its optimiser's state.
    """

    params: Params
    opt_state: optax.OptState

    def updated(
        self, gradients: Params, optimizer: optax.GradientTransformation
    ) -> "NetState":
        """Return the state after one step of the optimiser along `gradients`."""
        updates, opt_state = optimizer.update(gradients, self.opt_state, self.params)
        return NetState(optax.apply_updates(self.params, updates), opt_state)


class ClassifierState(struct.PyTreeNode):
    """A classifier in training.

    Attributes:
      step: int32, the steps made so far.
      key: typed PRNG key of the run; step i uses `fold_in(key, i)`.
      `net`: weights and optimiser state.
      batch_stats: running statistics of batch normalisation; may be empty.
    """

    step: Array
    key: Array
    net: NetState
    batch_stats: Params

    @property
    def variables(self) -> dict[str, Params]:
        """The variables for the module's `apply` at inference."""
        variables = {"params": self.net.params}
        return variables | (
            {"batch_stats": self.batch_stats} if self.batch_stats else {}
        )


class DistilledState(ClassifierState):
    """A distilled classifier, against which the attack on a black box trains."""


class AdvGANState(struct.PyTreeNode):
    """An AdvGAN in training; the target model is not part of it.

    Attributes:
      step: int32, the steps made so far.
      key: typed PRNG key of the run, for steps that draw; AdvGAN's does not.
      generator: weights and optimiser state of G.
      discriminator: weights and optimiser state of D.
    """

    step: Array
    key: Array
    generator: NetState
    discriminator: NetState


class BlackBoxState(struct.PyTreeNode):
    """An AdvGAN and the distilled model that it is trained against.

    The distilled model's images and answers are not part of the state. They are the
    first entries of the oracle's ledger, as many as `queries` says.

    Attributes:
      advgan: generator and discriminator.
      distilled: the copy of the black box.
      queries: int32 `[R]`, total number of queries after each series of queries; 0 for
        a future one.
    """

    advgan: AdvGANState
    distilled: DistilledState
    queries: Array

    @property
    def step(self) -> int:
        """The steps made so far, of both."""
        # Summed on the host: during a run the two may be on different devices.
        return int(self.advgan.step) + int(self.distilled.step)


class AIGANState(AdvGANState):
    """An AI-GAN in training, the same through both of its stages."""


def init_net(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: Array,
    *inputs: Array,
) -> tuple[NetState, Params]:
    """Initialise weights and optimiser state, and batch statistics (may be empty)."""
    variables = module.init(key, *inputs)
    params = variables["params"]
    return NetState(params, optimizer.init(params)), variables.get("batch_stats", {})


def apply(module: nn.Module, params: Params, *inputs: Array, **options: Any) -> Any:
    """Apply a module with these weights, and no other variables."""
    return module.apply({"params": params}, *inputs, **options)


def first_step() -> Array:
    """Return the step counter of a fresh state."""
    return jnp.zeros((), jnp.int32)
