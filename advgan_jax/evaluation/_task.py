"""Check the model and the images of an evaluation, and divide them into batches."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from advgan_jax import parallel
from advgan_jax.checks import check_bounds, check_images, check_labels
from advgan_jax.data import evaluation_batches, to_float
from advgan_jax.logits import as_pytree, check_logits_fn, warn_of_probabilities
from advgan_jax.types import Bounds, LogitsFn


class PaddedBatch(NamedTuple):
    """One batch of images, padded to the batch size."""

    images: np.ndarray  # float32 `[B, H, W, C]`
    index: np.ndarray  # int `[B]`, positions in the whole set; padding repeats one
    mask: np.ndarray  # bool `[B]`, False on padding


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A model and its N images, both checked by `make_task`; `batch_size` <= N."""

    logits_fn: LogitsFn
    images: np.ndarray
    labels: np.ndarray
    target_labels: np.ndarray | None
    bounds: Bounds
    batch_size: int

    @functools.cached_property
    def model(self) -> LogitsFn:
        """Place the model, as a pytree, on all devices."""
        return parallel.replicate(as_pytree(self.logits_fn))

    def batches(self, title: str | None = None) -> Iterator[PaddedBatch]:
        """Yield all images in order and check them; show a bar if there is a title."""
        index = np.arange(len(self.labels))
        batches = evaluation_batches(self.images, index, self.batch_size)
        look = {"desc": title, "unit": " img", "unit_scale": True}
        hidden = True if title is None else None  # None shows it on terminals only
        with tqdm(total=len(index), disable=hidden, **look) as bar:
            for images, rows, mask in batches:
                images = to_float(images)
                check_images(images, self.bounds)
                yield PaddedBatch(images, rows, mask)
                bar.update(int(mask.sum()))


def make_task(
    logits_fn: LogitsFn,
    images: Any,
    labels: Any,
    target_labels: Any,
    batch_size: int,
    bounds: Bounds,
) -> Task:
    """Check the arguments of an evaluation; they are those of `evaluate`."""
    check_bounds(bounds)
    images = np.asarray(images)
    if images.size == 0:
        raise ValueError(
            f"`images` must contain at least one, got shape {list(images.shape)}."
        )
    check_images(to_float(images[:1]), bounds)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    batch_size = min(batch_size, len(images))
    batch: Any = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), jnp.float32)
    num_classes = check_logits_fn(as_pytree(logits_fn), batch)

    def _class_ids(ids: Any, name: str) -> np.ndarray:
        ids = np.asarray(ids)
        check_labels(ids, len(images), num_classes, name=name)
        return ids.astype(np.int32, copy=False)

    labels = _class_ids(labels, "labels")
    if target_labels is not None:
        target_labels = _class_ids(target_labels, "target_labels")
    return Task(logits_fn, images, labels, target_labels, bounds, batch_size)


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
    inside = ((adversarial >= low) & (adversarial <= high)).all(axis=(1, 2, 3))
    if not inside.all():
        bad = int(np.flatnonzero(~inside)[0])
        pixels = adversarial[bad]
        raise ValueError(
            f"Adversarial images must lie within bounds {bounds}, image "
            f"{clean.index[bad]} has values from {pixels.min():g} to "
            f"{pixels.max():g}; an attack clips last."
        )
    return adversarial


_logits = jax.jit(lambda logits_fn, images: logits_fn(images).astype(jnp.float32))


def finite_logits(task: Task, batch: PaddedBatch, *, kind: str = "clean") -> np.ndarray:
    """Return the logits of a batch, float32 `[B, K]`; raise unless all are finite."""
    logits = _logits(task.model, parallel.spread(batch.images))
    logits = parallel.fetch(logits, len(batch.images))
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"`logits_fn` must return finite logits, got {logits[bad]} for {kind} "
            f"image {batch.index[bad]}; are all weights finite, and does the model "
            "normalise its input without dividing by zero?"
        )
    return logits


def predict_clean(task: Task, title: str | None = None) -> np.ndarray:
    """Predict the clean images, int32 `[N]`; of equal logits the first wins."""
    parts = [finite_logits(task, batch)[batch.mask] for batch in task.batches(title)]
    logits = np.concatenate(parts)
    warn_of_probabilities(logits, stacklevel=4)
    return np.argmax(logits, axis=-1).astype(np.int32)
