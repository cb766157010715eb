r"""Adversarial training: classifiers that learn from attacks on themselves.

Each step attacks its batch and then minimises, over the weights,

.. math:: w\,J(x, y) + (1 - w)\,J(x_A, y)

or what else an `Objective` says (`training.trades`). Goodfellow's training is FGSM and
w = 1/2: each image of the batch counts once as it is and once attacked. Madry's is PGD
and w = 0. Tramer's differs from Goodfellow's in whom the attack looks at: for each
batch one of several frozen nets or the net itself, drawn at random. Any attack can take
the place of these.

Deviations from the papers:
  * The attacked net is the one that is evaluated later: without dropout, and with the
    running statistics of batch normalisation.
  * The bound of the attack may grow over the first steps: trainings far shorter than
    Madry's 100,000 steps otherwise tend to stay at chance on MNIST.

References:
  Goodfellow et al., 2015 (https://arxiv.org/abs/1412.6572), Sec. 6;
  Tramer et al., 2018 (https://arxiv.org/abs/1705.07204), Sec. 3.4;
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Sec. 2.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from advgan_jax import models, parallel
from advgan_jax.training.classifier import augment
from advgan_jax.training.states import ClassifierState
from advgan_jax.types import Array, Attack, Batch, LogitsFn, Metrics

Step = Callable[..., tuple[ClassifierState, Metrics]]


class Augmentation(NamedTuple):
    """What is done to images before they are attacked.

    Attributes:
      max_shift: pixels, see `classifier.augment`.
      flip: whether half of them are mirrored.
    """

    max_shift: int = 0
    flip: bool = False


class Crafting(NamedTuple):
    """How a training attacks its batches.

    Attributes:
      attack: bound, of the form of `types.Attack`.
      predicted_labels: whether to attack the net's own prediction in the place of the
        true class, which one-step attacks would otherwise reveal to the net.
      epsilon_fn: the bound at a step (int32 array); None leaves the attack's own.
    """

    attack: Attack
    predicted_labels: bool = False
    epsilon_fn: Callable[[Array], Array] | None = None

    def __call__(
        self, logits_fn: LogitsFn, batch: Batch, key: Array, step: Array
    ) -> Array:
        """Attacked images `[B, H, W, C]` of a batch."""
        labels = None if self.predicted_labels else batch.labels
        bound = {} if self.epsilon_fn is None else {"epsilon": self.epsilon_fn(step)}
        return self.attack(logits_fn, batch.images, labels, key=key, **bound)


def growing(epsilon: float, num_steps: int) -> Callable[[Array], Array]:
    """A bound that grows from nothing to `epsilon` over the first `num_steps` steps."""
    return optax.linear_schedule(0.0, epsilon, num_steps)


def make_adversarial_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    crafting: Crafting,
    *,
    clean_weight: float = 0.5,
    label_smoothing: float = 0.0,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (immutable)
) -> Step:
    """The step of training against an attack on the net itself.

    Args:
      model: `images, train -> logits`.
      optimizer: that of the state.
      crafting: the attack.
      clean_weight: `w` in [0, 1]; with 0 the clean images are not looked at.
      label_smoothing: share of a label that is spread over all classes.
      augmentation: of the clean images.

    Returns:
      A pure `train_step(state, batch, *, axis_name=None) -> (state, metrics)` on a
      `ClassifierState`; metrics are `loss`, `robust_accuracy` (of the attacked batch)
      and, unless `clean_weight` is 0, `accuracy`.

    Raises:
      ValueError: if `clean_weight` is not in [0, 1].
    """
    objective = _mixture(clean_weight, label_smoothing)

    def craft(logits_fn, batch, keys, step):
        return crafting(logits_fn, batch, keys.own, step)

    return make_step(model, optimizer, craft, objective, augmentation)


def make_ensemble_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    crafting: Crafting,
    *,
    clean_weight: float = 0.5,
    label_smoothing: float = 0.0,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (immutable)
) -> Step:
    """The step of training against attacks on other nets and on the net itself.

    Args:
      model: as in `make_adversarial_step`, and so is all else.
      optimizer: that of the state.
      crafting: the attack; with `predicted_labels`, those of the net it looks at.
      clean_weight: `w`.
      label_smoothing: share of a label that is spread over all classes.
      augmentation: of the clean images.

    Returns:
      A pure `train_step(state, batch, sources, *, axis_name=None)`; `sources` is a
      tuple of frozen models, of which one or the net itself is drawn for each batch,
      all with the same chance and the same for all shards.

    Raises:
      ValueError: if `clean_weight` is not in [0, 1].
    """
    objective = _mixture(clean_weight, label_smoothing)

    def craft(logits_fn, batch, keys, step, sources):
        members = (logits_fn, *sources)
        drawn = jax.random.randint(keys.shared, (), 0, len(members))
        attacks = [
            lambda member=member: crafting(member, batch, keys.own, step)
            for member in members
        ]
        return jax.lax.switch(drawn, attacks)

    return make_step(model, optimizer, craft, objective, augmentation)


class Objective(NamedTuple):
    """What a defended net minimises.

    Attributes:
      fn: `(clean logits or None, attacked logits, labels) -> (loss, metrics)`.
      looks_at_clean: whether the clean images are needed; else `fn` gets None.
    """

    fn: Callable[[Array | None, Array, Array], tuple[Array, Metrics]]
    looks_at_clean: bool = True


class Keys(NamedTuple):
    """Of one step.

    Attributes:
      own: the shard's own.
      shared: one that all shards have.
    """

    own: Array
    shared: Array


def _mixture(clean_weight: float, label_smoothing: float) -> Objective:
    if not 0 <= clean_weight <= 1:
        raise ValueError(f"`clean_weight` must be in [0, 1], got {clean_weight}.")

    def objective(clean, adversarial, labels):
        loss = cross_entropy(adversarial, labels, label_smoothing)
        metrics = {"robust_accuracy": accuracy(adversarial, labels)}
        if clean is not None:
            own = cross_entropy(clean, labels, label_smoothing)
            loss = clean_weight * own + (1 - clean_weight) * loss
            metrics["accuracy"] = accuracy(clean, labels)
        return loss, metrics

    return Objective(objective, looks_at_clean=clean_weight > 0)


def cross_entropy(logits: Array, labels: Array, label_smoothing: float) -> Array:
    """Mean cross-entropy of `[B, K]` logits with smoothed labels `[B]`."""
    wanted = jax.nn.one_hot(labels, logits.shape[-1])
    wanted = optax.smooth_labels(wanted, label_smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, wanted))


def accuracy(logits: Array, labels: Array) -> Array:
    """Share of right predictions."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    craft: Callable[..., Array],
    objective: Objective,
    augmentation: Augmentation,
) -> Step:
    """The part that all defences share: augment, attack, learn.

    Args:
      model: `images, train -> logits`.
      optimizer: that of the state.
      craft: `(logits_fn, batch, keys, step, *frozen) -> attacked images`, `keys` being
        `Keys`.
      objective: what is minimised.
      augmentation: of the clean images.

    Returns:
      A pure `train_step(state, batch, *frozen, axis_name=None) -> (state, metrics)`.
    """
    loss_fn = _make_loss_fn(model, objective)

    def train_step(state, batch: Batch, *frozen, axis_name: str | None = None):
        shared = jax.random.fold_in(state.key, state.step)
        own = parallel.fold_in_shard(shared, axis_name)
        key_augment, key_attack, key_dropout = jax.random.split(own, 3)
        images = augment(batch.images, key_augment, **augmentation._asdict())
        batch = batch._replace(images=images)
        logits_fn = models.make_logits_fn(model, state.variables)
        keys = Keys(key_attack, jax.random.fold_in(shared, _SHARED))
        adversarial = craft(logits_fn, batch, keys, state.step, *frozen)
        (loss, (metrics, batch_stats)), gradients = jax.value_and_grad(
            loss_fn, has_aux=True
        )(state.net.params, state, batch, adversarial, key_dropout, axis_name)
        gradients = parallel.mean_over(gradients, axis_name)
        net = state.net.updated(gradients, optimizer)
        state = state.replace(step=state.step + 1, net=net, batch_stats=batch_stats)
        return state, {"loss": loss, **metrics}

    return train_step


def _make_loss_fn(model, objective):
    def loss_fn(params, state, batch, adversarial, key, axis_name):
        clean = batch.images if objective.looks_at_clean else adversarial[:0]
        # In one pass, so that batch normalisation sees both as one batch.
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            jnp.concatenate([clean, adversarial]),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        parts = jnp.split(logits, [len(clean)])
        parts[0] = parts[0] if objective.looks_at_clean else None
        # Averaged here and again as gradients: right under jit, pmap and shard_map.
        loss, metrics = parallel.mean_over(
            objective.fn(*parts, batch.labels), axis_name
        )
        return loss, (metrics, updated.get("batch_stats", {}))

    return loss_fn


_SHARED = 2**31 - 1  # no shard has this index, so no shard has the shared key
