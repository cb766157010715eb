"""Check the model and the images of an evaluation, and divide them into batches."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import parallel, tracing
from advgan_jax.checks import as_images, check_bounds, check_labels
from advgan_jax.data import evaluation_batches
from advgan_jax.logits import (
    CURE,
    LOGITS_RULE,
    apply,
    as_function,
    check_logits_fn,
    usable_logits,
    warn_of_layout,
    warn_of_probabilities,
)
from advgan_jax.progress import progress
from advgan_jax.types import Bounds


class PaddedBatch(NamedTuple):
    """One batch of images, padded to the batch size."""

    images: np.ndarray  # float32 `[B, ...]`
    index: np.ndarray  # int `[B]`, positions in the whole set; padding repeats one
    mask: np.ndarray  # bool `[B]`, False on padding


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A model and its N images, both checked by `make_task`; `batch_size` <= N."""

    function: tracing.Function
    images: np.ndarray
    labels: np.ndarray
    target_labels: np.ndarray | None
    bounds: Bounds
    batch_size: int
    gradients: dict[str, dict[str, np.ndarray]] = dataclasses.field(
        default_factory=dict  # measured once for each loss
    )

    @functools.cached_property
    def models(self) -> dict[str, tracing.Traced]:
        """The model on all devices, traced for a batch on all devices."""
        shape = parallel.spread_size(self.batch_size), *self.images.shape[1:]
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        return parallel.replicate({"logits_fn": self.function.like(images)})

    def batches(self, title: str | None = None) -> Iterator[PaddedBatch]:
        """Yield all images in order and check them; show a bar if there is a title."""
        index = np.arange(len(self.labels))
        batches = evaluation_batches(self.images, index, self.batch_size)
        with progress(len(index), title, shown=title is not None) as update:
            for images, rows, mask in batches:
                images = np.asarray(as_images(images, self.bounds))
                yield PaddedBatch(images, rows, mask)
                update(int(mask.sum()))


def make_task(
    logits_fn: Any,
    images: Any,
    labels: Any,
    target_labels: Any,
    batch_size: int,
    bounds: Bounds,
) -> Task:
    """Check the arguments of an evaluation; they are those of `evaluate`."""
    bounds = check_bounds(bounds)
    images = np.asarray(images)
    if images.size == 0:
        raise ValueError(
            f"`images` must contain at least one, got shape {list(images.shape)}."
        )
    as_images(images[:1], bounds)
    warn_of_layout(images, bounds)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    batch_size = min(batch_size, len(images))
    batch: Any = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), jnp.float32)
    function = as_function(logits_fn)
    num_classes = check_logits_fn(function, batch)

    def _class_ids(ids: Any, name: str) -> np.ndarray:
        ids = np.asarray(ids)
        check_labels(ids, len(images), num_classes, name=name)
        return ids.astype(np.int32, copy=False)

    labels = _class_ids(labels, "labels")
    if target_labels is not None:
        target_labels = _class_ids(target_labels, "target_labels")
    return Task(function, images, labels, target_labels, bounds, batch_size)


def check_adversarial(
    adversarial: Any, clean: PaddedBatch, bounds: Bounds
) -> np.ndarray:
    """Return the output of an attack as an array; raise unless it is valid images."""
    wanted = clean.images
    shape, dtype = getattr(adversarial, "shape", None), getattr(adversarial, "dtype", 0)
    if shape != wanted.shape or dtype != wanted.dtype:
        got = f"{dtype}{list(shape)}" if shape is not None else type(adversarial)
        raise ValueError(
            f"Adversarial images must be {wanted.dtype}{list(wanted.shape)} like the "
            f"clean ones, got {got}; an attack returns images and nothing else."
        )
    adversarial = np.asarray(adversarial)
    low, high = (np.float32(bound) for bound in bounds)
    # A comparison with NaN is False, so this finds NaN too.
    pixels = adversarial.reshape(len(adversarial), -1)
    inside = ((pixels >= low) & (pixels <= high)).all(axis=1)
    if not inside.all():
        bad = int(np.flatnonzero(~inside)[0])
        raise ValueError(
            f"Adversarial images must lie within bounds {bounds}, image "
            f"{clean.index[bad]} has values from {pixels[bad].min():g} to "
            f"{pixels[bad].max():g}; an attack clips last."
        )
    return adversarial


def _logits(models: Any, images: Any) -> Any:
    return apply(models, images).astype(jnp.float32)


def finite_logits(task: Task, batch: PaddedBatch, *, kind: str = "clean") -> np.ndarray:
    """Return the logits of a batch, float32 `[B, K]`; raise unless all are usable."""
    logits = tracing.run(_logits, task.models, parallel.spread(batch.images))
    logits = parallel.fetch(logits, len(batch.images))
    usable = usable_logits(logits)
    if not usable.all():
        bad = int(np.flatnonzero(~usable)[0])
        raise ValueError(
            f"`logits_fn` {LOGITS_RULE}, got {logits[bad]} for {kind} image "
            f"{batch.index[bad]}; {CURE}"
        )
    return logits


def predict_clean(task: Task, title: str | None = None) -> np.ndarray:
    """Predict the clean images, int32 `[N]`; of equal logits the first wins."""
    parts = [finite_logits(task, batch)[batch.mask] for batch in task.batches(title)]
    logits = np.concatenate(parts)
    warn_of_probabilities(logits, stacklevel=4)
    return np.argmax(logits, axis=-1).astype(np.int32)
