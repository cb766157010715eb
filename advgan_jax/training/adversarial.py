r"""Adversarial training: classifiers that learn from attacks on themselves.

Each step attacks its batch and then minimises one of two losses over the weights:

.. math:: w\,J(x, y) + (1 - w)\,J(x_A, y) \qquad\text{or}\qquad
    J(x, y) + \beta\,D_{KL}(p(x) \Vert p(x_A))

| method | attacked model | attack in the paper | loss |
|---|---|---|---|
| Goodfellow | the trained model | FGSM | first, `w = 1/2` |
| Tramer | it, or a frozen model drawn for each batch | FGSM | first, `w = 1/2` |
| Madry | the trained model | PGD | first, `w = 0` |
| TRADES | the trained model | PGD on the divergence | second |

Deviations from the papers:
  * The attacked model is in inference mode: without dropout, and with the running
    statistics of batch normalisation.
  * The bound of the attack may grow over the first steps. Otherwise the accuracy of
    trainings shorter than Madry's 100,000 steps often stays at chance on MNIST.
  * Batch normalisation sees clean and attacked images as one batch; in the released
    code of TRADES they are two.
  * The attack of TRADES keeps its own random start; the paper's is Gaussian noise.

References:
  Goodfellow et al., 2015 (https://arxiv.org/abs/1412.6572), Sec. 6;
  Tramer et al., 2018 (https://arxiv.org/abs/1705.07204), Sec. 3.4;
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Sec. 2;
  Zhang et al., 2019 (https://arxiv.org/abs/1901.08573), Alg. 1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from advgan_jax import models, parallel
from advgan_jax.checks import check_share
from advgan_jax.training.classifier import Step, augment, descend, train_logits
from advgan_jax.training.states import ClassifierState
from advgan_jax.types import Array, Attack, Batch, LogitsFn, Metrics, Params

_SHARED = 2**31 - 1  # no shard has this index, so no shard has the shared key


class Augmentation(NamedTuple):
    """Augmentation of the clean images before the attack; see `classifier.augment`."""

    max_shift: int = 0
    flip: bool = False


class Crafting(NamedTuple):
    """The attack on each batch of a training.

    Attributes:
      attack: with its hyper-parameters bound, a `types.Attack`.
      predicted_labels: whether to attack the model's own prediction. One-step attacks
        on the true class reveal it to the model.
      epsilon_fn: maps a step (int32 array) to the bound; None keeps the attack's own.
    """

    attack: Attack
    predicted_labels: bool = False
    epsilon_fn: optax.Schedule | None = None

    def __call__(
        self, logits_fn: LogitsFn, batch: Batch, key: Array, step: Array
    ) -> Array:
        """Return the attacked images `[B, H, W, C]` of a batch."""
        labels = None if self.predicted_labels else batch.labels
        bound = {} if self.epsilon_fn is None else {"epsilon": self.epsilon_fn(step)}
        return self.attack(logits_fn, batch.images, labels, key=key, **bound)


# `(logits_fn, batch, (own key, shared key), step, *frozen) -> attacked images`
_Craft = Callable[..., Array]
# `(clean logits or None, attacked logits, labels) -> (loss, metrics)`
_Loss = Callable[[Array | None, Array, Array], tuple[Array, Metrics]]


def warm_up_epsilon(epsilon: float, num_steps: int) -> optax.Schedule:
    """Return a bound that grows from 0 to `epsilon` in the first `num_steps`."""
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
    """Make the step of Goodfellow's, Tramer's and Madry's training.

    Args:
      model: see `training`.
      optimizer: see `training`.
      crafting: the attack; `predicted_labels` are those of the attacked model.
      clean_weight: `w` in [0, 1]; 0 omits the clean images.
      label_smoothing: share of each label that is spread over all classes.
      augmentation: of the clean images.

    Returns:
      A pure `train_step(state, batch, sources=(), *, axis_name=None)`. It attacks the
      trained model or one of the frozen models `sources`, drawn with equal chance for
      each batch; all shards attack the same one. The metrics are `loss`,
      `robust_accuracy` (on the attacked batch) and, unless `clean_weight` is 0,
      `accuracy`.

    Raises:
      ValueError: if `clean_weight` is not in [0, 1], `label_smoothing` not in [0, 1).
    """
    check_share("label_smoothing", label_smoothing)
    if not 0 <= clean_weight <= 1:
        raise ValueError(f"`clean_weight` must be in [0, 1], got {clean_weight}.")

    def _craft(
        logits_fn: LogitsFn,
        batch: Batch,
        keys: tuple[Array, Array],
        step: Array,
        sources: tuple[LogitsFn, ...] = (),
    ) -> Array:
        own, shared = keys
        if not sources:
            return crafting(logits_fn, batch, own, step)
        members = (logits_fn, *sources)
        drawn = jax.random.randint(shared, (), 0, len(members))
        attacks = [partial(crafting, member, batch, own, step) for member in members]
        return jax.lax.switch(drawn, attacks)

    def _loss_fn(
        clean: Array | None, attacked: Array, labels: Array
    ) -> tuple[Array, Metrics]:
        loss = _cross_entropy(attacked, labels, label_smoothing)
        metrics = {"robust_accuracy": _accuracy(attacked, labels)}
        if clean is not None:
            own = _cross_entropy(clean, labels, label_smoothing)
            loss = clean_weight * own + (1 - clean_weight) * loss
            metrics["accuracy"] = _accuracy(clean, labels)
        return loss, metrics

    with_clean = clean_weight > 0
    return _make_step(model, optimizer, _craft, _loss_fn, with_clean, augmentation)


def make_trades_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    crafting: Crafting,
    *,
    divergence_weight: float = 6.0,
    label_smoothing: float = 0.0,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (immutable)
) -> Step:
    r"""Make the step of TRADES, whose attack increases the divergence.

    The arguments are those of `make_adversarial_step`, but `divergence_weight`,
    :math:`\beta \ge 0`, replaces `clean_weight`; `predicted_labels` is unused. The
    attack needs a random start, because the divergence has no slope where it is zero.
    It needs a single start, because every image but the clean one succeeds.

    Returns:
      A pure step with the metrics `loss`, `divergence`, `accuracy`, `robust_accuracy`.

    Raises:
      ValueError: if `divergence_weight` is negative, or `label_smoothing` not in
        [0, 1).
    """
    check_share("label_smoothing", label_smoothing)
    if divergence_weight < 0:
        raise ValueError(
            f"`divergence_weight` must be at least 0, got {divergence_weight}."
        )

    def _craft(
        logits_fn: LogitsFn, batch: Batch, keys: tuple[Array, Array], step: Array
    ) -> Array:
        fn = divergence_logits_fn(logits_fn, batch.images)
        labels = jnp.zeros_like(batch.labels)
        return crafting(fn, batch._replace(labels=labels), keys[0], step)

    def _loss_fn(clean: Any, attacked: Array, labels: Array) -> tuple[Array, Metrics]:
        divergence = jnp.mean(_divergence(jax.nn.log_softmax(clean), attacked))
        loss = _cross_entropy(clean, labels, label_smoothing)
        loss += divergence_weight * divergence
        return loss, {
            "divergence": divergence,
            "accuracy": _accuracy(clean, labels),
            "robust_accuracy": _accuracy(attacked, labels),
        }

    return _make_step(model, optimizer, _craft, _loss_fn, True, augmentation)


def divergence_logits_fn(logits_fn: LogitsFn, images: Array) -> LogitsFn:
    r"""Make a two-class model whose class 0 loses as the predictions diverge.

    .. math:: x' \mapsto (-D_{KL}(p(x) \Vert p(x')),\ 0)

    The cross-entropy and the margin of class 0 increase with the divergence alone. So
    an attack that ascends them from a random start, as PGD does, maximises the
    divergence. At the image itself there is no slope. An attack that stops at a
    misclassified image stops at once. A loss of three classes is undefined.

    `images` are `x`, `[B, H, W, C]`. The result accepts as many images in this order,
    and returns `[B, 2]`.
    """
    reference = jax.nn.log_softmax(logits_fn(images))
    return Partial(_divergence_logits, logits_fn, reference)


def _divergence_logits(logits_fn: LogitsFn, reference: Array, images: Array) -> Array:
    """Return the logits of `divergence_logits_fn`."""
    divergence = _divergence(reference, logits_fn(images))
    return jnp.stack([-divergence, jnp.zeros_like(divergence)], axis=-1)


def _divergence(reference: Array, logits: Array) -> Array:
    """Return the KL divergence `[B]` of logits from reference log-probabilities."""
    logs = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(reference) * (reference - logs), axis=-1)


def _cross_entropy(logits: Array, labels: Array, label_smoothing: float) -> Array:
    """Return the mean cross-entropy of `[B, K]` logits with smoothed labels `[B]`."""
    one_hot = jax.nn.one_hot(labels, logits.shape[-1])
    smoothed = optax.smooth_labels(one_hot, label_smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, smoothed))


def _accuracy(logits: Array, labels: Array) -> Array:
    """Return the share of correct predictions."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def _make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    craft: _Craft,
    loss: _Loss,
    with_clean: bool,
    augmentation: Augmentation,
) -> Step:
    """Make the step that all methods share: augment, attack, learn."""

    def train_step(
        state: ClassifierState,
        batch: Batch,
        *frozen: tuple[LogitsFn, ...],
        axis_name: str | None = None,
    ) -> tuple[ClassifierState, Metrics]:
        """Make one step."""
        shared = jax.random.fold_in(state.key, state.step)
        own = parallel.fold_in_shard(shared, axis_name)
        key_augment, key_attack, key_dropout = jax.random.split(own, 3)
        images = augment(batch.images, key_augment, **augmentation._asdict())
        batch = batch._replace(images=images)
        logits_fn = models.make_logits_fn(model, state.variables)
        keys = (key_attack, jax.random.fold_in(shared, _SHARED))
        attacked = craft(logits_fn, batch, keys, state.step, *frozen)
        clean = batch.images if with_clean else attacked[:0]

        def _loss_fn(params: Params) -> tuple[Array, tuple[Metrics, Params]]:
            # In one pass, so that batch normalisation sees both as one batch.
            both = jnp.concatenate([clean, attacked])
            logits, stats = train_logits(model, params, state, both, key_dropout)
            parts = jnp.split(logits, [len(clean)])
            found = loss(parts[0] if with_clean else None, parts[1], batch.labels)
            return found[0], (found[1], stats)

        return descend(state, optimizer, _loss_fn, axis_name)

    return train_step
