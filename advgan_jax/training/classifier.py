"""Training of classifiers on classes or on another model's predictions."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from advgan_jax import parallel
from advgan_jax.checks import check_share
from advgan_jax.training.states import ClassifierState, first_step, init_model
from advgan_jax.types import Array, Batch, Metrics, Params

Step = Callable[..., tuple[Any, Metrics]]


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: Array,
    image_shape: tuple[int, int, int],
) -> ClassifierState:
    """Initialise a classifier; see `training` for the arguments."""
    key_init, key_run = jax.random.split(key)
    images = jnp.zeros((1, *image_shape), jnp.float32)
    weights, batch_stats = init_model(model, optimizer, key_init, images)
    return ClassifierState(first_step(), key_run, weights, batch_stats)


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    label_smoothing: float = 0.0,
    max_shift: int = 0,
    flip: bool = False,
) -> Step:
    r"""Make the step that minimises the mean cross-entropy.

    .. math:: L = \frac1B \sum_b H(q(y_b), \mathrm{softmax}(f(\tilde x_b)))

    Args:
      model: see `training`.
      optimizer: see `training`.
      label_smoothing: share of the label `q` that is spread evenly over all classes.
      max_shift: augmentation, see `augment`.
      flip: augmentation, see `augment`.

    Returns:
      A pure step. Its metrics are `loss` and `accuracy` on the augmented batch. Labels
      may be soft, float `[B, K]`; `accuracy` then compares the largest entries.

    Raises:
      ValueError: if `label_smoothing` is not in [0, 1); the step raises for a
        `max_shift` that would leave no pixel of an image.
    """
    check_share("label_smoothing", label_smoothing)

    def train_step(
        state: ClassifierState, batch: Batch, *, axis_name: str | None = None
    ) -> tuple[ClassifierState, Metrics]:
        """Make one step."""
        key = jax.random.fold_in(state.key, state.step)
        key = parallel.fold_in_shard(key, axis_name)
        key_augment, key_dropout = jax.random.split(key)
        images = augment(batch.images, key_augment, max_shift=max_shift, flip=flip)

        def _loss_fn(params: Params) -> tuple[Array, tuple[Metrics, Params]]:
            logits, stats = train_logits(model, params, state, images, key_dropout)
            labels = batch.labels
            if labels.ndim == 1:
                labels = jax.nn.one_hot(labels, logits.shape[-1])
            smooth = optax.smooth_labels(labels, label_smoothing)
            loss = jnp.mean(optax.softmax_cross_entropy(logits, smooth))
            predictions = jnp.argmax(logits, axis=-1)
            accuracy = jnp.mean(predictions == jnp.argmax(labels, axis=-1))
            return loss, ({"accuracy": accuracy}, stats)

        return descend(state, optimizer, _loss_fn, axis_name)

    return train_step


def train_logits(
    model: nn.Module, params: Params, state: ClassifierState, images: Array, key: Array
) -> tuple[Array, Params]:
    """Return logits `[B, K]` in training mode, and the new running statistics."""
    logits, updated = model.apply(
        {"params": params, "batch_stats": state.batch_stats},
        images,
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    return logits, updated.get("batch_stats", {})


def descend(
    state: ClassifierState,
    optimizer: optax.GradientTransformation,
    loss_fn: Callable[[Params], tuple[Array, tuple[Metrics, Params]]],
    axis_name: str | None,
) -> tuple[ClassifierState, Metrics]:
    """Make one step of the optimiser along the gradient of a loss.

    `loss_fn` maps weights to the loss, the metrics and the new running statistics.
    Returns the next state, and the metrics with the `loss`.
    """

    def _averaged(params: Params) -> tuple[Array, tuple[Metrics, Params]]:
        # Averaged here and again as gradients: right in every mode.
        loss, (metrics, stats) = loss_fn(params)
        loss, metrics = parallel.mean_over((loss, metrics), axis_name)
        return loss, (metrics, stats)

    value_and_grad = jax.value_and_grad(_averaged, has_aux=True)
    (loss, (metrics, batch_stats)), gradients = value_and_grad(state.model.params)
    gradients = parallel.mean_over(gradients, axis_name)
    updated = state.model.updated(gradients, optimizer)
    state = state.replace(step=state.step + 1, model=updated, batch_stats=batch_stats)
    return state, {"loss": loss, **metrics}


def augment(images: Array, key: Array, *, max_shift: int, flip: bool) -> Array:
    """Shift images `[B, H, W, C]` by up to `max_shift` pixels on both axes, at random.

    Shifted-in pixels are black. With `flip`, mirror each with probability 1/2. Raise
    `ValueError` unless `max_shift` is at least 0 and below the size of the images.
    """
    check_shift(max_shift, images.shape[1:])
    key_shift, key_flip = jax.random.split(key)
    if flip:
        mirrored = jax.random.bernoulli(key_flip, shape=(images.shape[0], 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if max_shift == 0:
        return images
    edge = (max_shift, max_shift)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    offsets = jax.random.randint(key_shift, (images.shape[0], 2), 0, 2 * max_shift + 1)

    def _crop(image: Array, offset: Array) -> Array:
        start = (offset[0], offset[1], 0)
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(_crop)(padded, offsets)


def check_shift(max_shift: int, image_shape: Sequence[int]) -> None:
    """Raise `ValueError` if a shift could leave no pixel of an image `(H, W, C)`."""
    size = min(image_shape[:2])
    if not 0 <= max_shift < size:
        raise ValueError(
            f"`max_shift` must be from 0 to {size - 1} for images of {size} pixels, "
            f"got {max_shift}."
        )
