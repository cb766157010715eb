r"""Training on adversarial examples of every layer, as Szegedy et al. propose.

Each chosen layer (layer 0 is the image itself) has a pool of adversarial inputs
`h + r` of the layers above it. Training keeps replacing a random part of the pool by
inputs made for the current weights, and mixes a random part of it with the training
images:

.. math:: L = \frac1B \sum_b H(y_b, f(x_b)) + K \sum_l \frac{\lambda_l}{k_l} \sum w_l^2
    + \frac{\alpha}{|S|} \sum_{l \in S} \frac1M \sum_m H(y_m, f_{>l}(h_m + r_m)).

An adversarial input of layer l is a constant, so it trains only the layers above l.

The paper gives neither the size of the pools nor the rate of replacement, nor the size
of the perturbations. It trains with L-BFGS. Here the batches change, which needs a
stochastic optimiser. Sigmoids lie in [0, 1] like pixels, so attacks use the same bounds
for both; rectified units, which the paper does not have, may reach twice the largest of
their batch.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.2, last paragraph.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.tree_util import Partial

from advgan_jax import parallel
from advgan_jax.checks import check_at_least
from advgan_jax.models import FullyConnected
from advgan_jax.training.full_batch import weight_decay
from advgan_jax.training.states import ModelState, apply, first_step, init_model
from advgan_jax.types import Array, Attack, Batch, LogitsFn, Metrics, Params


class Pool(NamedTuple):
    """Adversarial inputs of the layers above one layer, and their true classes.

    `inputs` are `[P, H, W, C]` for layer 0, else `[P, 1, 1, F]`. `labels`, int32 `[P]`,
    are -1 where there is no input yet.
    """

    inputs: Array
    labels: Array


class LayerwiseState(struct.PyTreeNode):
    """A model in training, as in `ClassifierState`, with a pool for each layer."""

    step: Array
    key: Array
    model: ModelState
    pools: tuple[Pool, ...]


class Mixture(NamedTuple):
    """The adversarial inputs in the loss, and the rate of their replacement.

    Attributes:
      layers: layers whose outputs are attacked; 0 is the image. Without any, training
        is ordinary.
      pool_size: P, inputs in the pool of each layer.
      num_replaced: inputs replaced at a time.
      steps_per_replacement: steps between two replacements; the layers take turns.
      num_mixed: M, inputs of each pool in each step.
      weight: `alpha`.
      rms: the root mean square to which each perturbation `r` is scaled, before it is
        clipped; None keeps what the attack made.
    """

    layers: tuple[int, ...] = ()
    pool_size: int = 2000
    num_replaced: int = 50
    steps_per_replacement: int = 10
    num_mixed: int = 64
    weight: float = 1.0
    rms: float | None = None


def init_state(
    model: FullyConnected,
    optimizer: optax.GradientTransformation,
    key: Array,
    image_shape: Sequence[int],
    mixture: Mixture,
) -> LayerwiseState:
    """Initialise the weights and empty pools; see `training` for the arguments.

    Raises `ValueError` if the mixture is out of range, or a hidden unit is neither a
    sigmoid nor rectified.
    """
    _check(model, mixture)
    key_init, key_run = jax.random.split(key)
    images = jnp.zeros((1, *image_shape), jnp.float32)
    weights, _ = init_model(model, optimizer, key_init, images)
    size = mixture.pool_size

    def _empty(layer: int) -> Pool:
        shape = (1, 1, model.hidden[layer - 1]) if layer else image_shape
        return Pool(jnp.zeros((size, *shape)), jnp.full(size, -1, jnp.int32))

    # Each pool has its own arrays, because a step may donate all of them.
    pools = tuple(map(_empty, mixture.layers))
    return LayerwiseState(first_step(), key_run, weights, pools)


def _check(model: FullyConnected, mixture: Mixture) -> None:
    """Reject layers, units or numbers that are not possible."""
    for layer in mixture.layers:
        if not 0 <= layer <= len(model.hidden):
            raise ValueError(
                f"`layers` must be from 0, the image, to {len(model.hidden)}, the last "
                f"hidden layer, got {layer}."
            )
    if mixture.layers and model.activation not in (nn.sigmoid, nn.relu):
        raise ValueError(
            "The hidden units must be sigmoids or rectified, `nn.sigmoid` or "
            f"`nn.relu`, got {model.activation}."
        )
    for name in ("pool_size", "num_replaced", "steps_per_replacement", "num_mixed"):
        check_at_least(name, getattr(mixture, name), 1)
    check_at_least("weight", mixture.weight, 0)
    check_at_least("rms", mixture.rms or 0, 0)
    if mixture.num_replaced > mixture.pool_size:
        raise ValueError(
            f"`num_replaced` must be at most `pool_size`, {mixture.pool_size}, got "
            f"{mixture.num_replaced}."
        )


@cache
def _part(model: nn.Module, first: int, last: int | None) -> Callable[..., Array]:
    """Make the function of some layers; the same object for an equal model."""
    part = partial(apply, model, first=first, last=last)
    return lambda params, scale, inputs: part(params, scale * inputs)


def layers_above(
    model: nn.Module, params: Params, layer: int, scale: Array | float = 1.0
) -> LogitsFn:
    """Return the layers above a layer (0: all), `[B, ...] -> [B, K]`.

    Its inputs are the layer's outputs divided by `scale`.
    """
    return Partial(_part(model, layer, None), params, scale)


def layer_outputs(model: nn.Module, params: Params, images: Array, layer: int) -> Array:
    """Return the output of a layer as `[B, 1, 1, F]`; the images for layer 0."""
    if layer == 0:
        return images
    return _part(model, 0, layer)(params, 1.0, images)[:, None, None, :]


def make_train_step(
    model: FullyConnected,
    optimizer: optax.GradientTransformation,
    attack: Attack,
    mixture: Mixture,
    *,
    strengths: Sequence[float],
) -> Callable[..., tuple[LayerwiseState, Metrics]]:
    """Make the step that replaces a part of one pool and then descends on the mixture.

    Args:
      model: with sigmoid or rectified units; may have dropout.
      optimizer: see `training`.
      attack: untargeted, compiled with the step.
      mixture: the layers, the sizes of their pools, and the weight.
      strengths: weight decay `lambda` of each layer.

    Returns:
      A pure step. Its metrics are `loss` and `accuracy` on the clean images and, if
      there are pools, their `adversarial_loss`. With `axis_name`, each device replaces
      `num_replaced`.

    Raises:
      ValueError: as `init_state`.
    """
    _check(model, mixture)

    def train_step(
        state: LayerwiseState, batch: Batch, *, axis_name: str | None = None
    ) -> tuple[LayerwiseState, Metrics]:
        """Make one step."""
        shared, own = jax.random.split(jax.random.fold_in(state.key, state.step))
        own = parallel.fold_in_shard(own, axis_name)
        key_dropout, key_attack, key_pick = jax.random.split(own, 3)
        keys = (key_attack, shared)
        pools = tuple(
            _replaced(model, attack, mixture, turn, state, batch, keys, axis_name)
            for turn in range(len(mixture.layers))
        )
        rows = jax.random.randint(key_pick, (mixture.num_mixed,), 0, mixture.pool_size)
        picked = [Pool(pool.inputs[rows], pool.labels[rows]) for pool in pools]

        def _loss_fn(params: Params) -> tuple[Array, Metrics]:
            rngs = {"dropout": key_dropout}
            logits = apply(model, params, batch.images, train=True, rngs=rngs)
            clean = jnp.mean(_cross_entropy(logits, batch.labels))
            accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == batch.labels)
            metrics: dict[str, Any] = {"loss": clean, "accuracy": accuracy}
            total = clean + weight_decay(params, strengths)
            if picked:
                losses = [
                    _pool_loss(model, params, layer, pool)
                    for layer, pool in zip(mixture.layers, picked, strict=True)
                ]
                metrics["adversarial_loss"] = sum(losses) / len(losses)
                total = total + mixture.weight * metrics["adversarial_loss"]
            # Averaged here and again as gradients: right under jit, pmap and shard_map.
            return parallel.mean_over((total, metrics), axis_name)

        (_, metrics), gradients = jax.value_and_grad(_loss_fn, has_aux=True)(
            state.model.params
        )
        gradients = parallel.mean_over(gradients, axis_name)
        updated = state.model.updated(gradients, optimizer)
        return state.replace(step=state.step + 1, model=updated, pools=pools), metrics

    return train_step


def _cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the cross-entropy of each image."""
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))


def _pool_loss(model: FullyConnected, params: Params, layer: int, pool: Pool) -> Array:
    """Return the mean loss of the pool's inputs, which are constants."""
    logits = layers_above(model, params, layer)(jax.lax.stop_gradient(pool.inputs))
    filled = pool.labels >= 0
    losses = jnp.where(filled, _cross_entropy(logits, pool.labels), 0)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(filled), 1)


def _scale(model: FullyConnected, layer: int, inputs: Array) -> Array:
    """Return the number by which a layer's outputs are divided to lie in [0, 1].

    Rectified units have no upper bound: they may reach twice the largest of the batch.
    """
    if layer == 0 or model.activation is nn.sigmoid:
        return jnp.ones(())
    return jnp.maximum(2 * jnp.max(inputs), 1e-6)


def _rescaled(inputs: Array, found: Array, rms: Array) -> Array:
    """Return inputs with the perturbations of `found`, scaled to `rms` and clipped."""
    change = found - inputs
    axes = tuple(range(1, inputs.ndim))
    size = jnp.sqrt(jnp.mean(change**2, axis=axes, keepdims=True))
    scale = jnp.where(size > 0, rms / jnp.where(size > 0, size, 1), 0)
    return jnp.clip(inputs + scale * change, 0, 1)


def _replaced(
    model: FullyConnected,
    attack: Attack,
    mixture: Mixture,
    turn: int,
    state: LayerwiseState,
    batch: Batch,
    keys: tuple[Array, Array],
    axis_name: str | None,
) -> Pool:
    """Return the pool of one layer, with a random part replaced on its turn."""
    key, shared = keys  # the second is the same on all devices, like the pool
    layer, pool = mixture.layers[turn], state.pools[turn]
    replacement, waits = jnp.divmod(state.step, mixture.steps_per_replacement)
    due = (waits == 0) & (replacement % len(mixture.layers) == turn)
    chosen = jax.tree.map(lambda x: x[: mixture.num_replaced], batch)
    params = state.model.params

    def _make() -> Array:
        inputs = layer_outputs(model, params, chosen.images, layer)
        scale = _scale(model, layer, inputs)
        inputs = inputs / scale
        above = layers_above(model, params, layer, scale)
        found = attack(above, inputs, chosen.labels, key=key)
        if mixture.rms is not None:
            found = _rescaled(inputs, found, mixture.rms / scale)
        return scale * found

    blank = (len(chosen.labels), *pool.inputs.shape[1:])
    inputs = jax.lax.cond(due, _make, partial(jnp.zeros, blank))
    new = Pool(inputs, chosen.labels)
    if axis_name is not None:
        gather = partial(jax.lax.all_gather, axis_name=axis_name, tiled=True)
        new = jax.tree.map(gather, new)
    rows = jax.random.permutation(shared, mixture.pool_size)[: len(new.labels)]
    written = jax.tree.map(lambda old, x: old.at[rows].set(x[: len(rows)]), pool, new)
    return jax.tree.map(partial(jnp.where, due), written, pool)
