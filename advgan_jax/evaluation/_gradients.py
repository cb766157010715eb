"""Measure where the gradient that an attack follows is zero or not finite."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import losses, parallel, tracing
from advgan_jax.evaluation._task import Task
from advgan_jax.evaluation.result import Evaluation
from advgan_jax.logits import apply
from advgan_jax.types import Array, LogitsFn

# A larger share of images without a usable gradient is no accident.
_MOST = 0.01


@jax.custom_jvp
def _watched(images: Array) -> Array:
    return images


_MARK = "marked_derivative"


@jax.jit
def marked_derivative(tangent: Array) -> Array:
    """Return a tangent; the name of this function shows in the traced program."""
    return tangent * 1  # an identity alone would not stay in the program


@_watched.defjvp
def _differentiate(primals: Any, tangents: Any) -> Any:
    return primals[0], marked_derivative(tangents[0])


def watch(logits_fn: LogitsFn) -> LogitsFn:
    """Mark a model, so that a traced program shows whether it differentiates it.

    See `differentiates`. The compiler removes the mark.
    """
    # On the images, because a model of steps cuts the tangents in front of its logits.
    return lambda images: logits_fn(_watched(images))


def differentiates(traced: tracing.Traced) -> bool:
    """Return whether a traced attack differentiates the model of `watch`."""
    return any(code.calls(_MARK) for code in traced.codes)


def loss_of(attack: Any) -> str:
    """Return the name of the loss that an attack follows, as far as it is known."""
    arguments = getattr(attack, "arguments", None)  # set by `make_attack`
    return "cross_entropy" if arguments is None else arguments.get("loss", "margin")


def measure_gradients(task: Task, loss: str | None) -> dict[str, np.ndarray]:
    """Return `gradient_zero` and `gradient_not_finite` of an `Evaluation`, if any.

    The gradient is that of the named loss at the clean images; see `evaluate`.
    """
    if loss is None:
        return {}
    marks = _measured(task, loss)
    return {name: marks[name] for name in ("gradient_zero", "gradient_not_finite")}


def gradient_lengths(task: Task, loss: str) -> np.ndarray:
    """Return the L2 norm of the gradient of a loss at each clean image, `[N]`."""
    return _measured(task, loss)["length"]


def _measured(task: Task, loss: str) -> dict[str, np.ndarray]:
    """Compute the gradient of each clean image once."""
    if loss not in task.gradients:
        task.gradients[loss] = _measure(task, loss)
    return task.gradients[loss]


def _measure(task: Task, loss: str) -> dict[str, np.ndarray]:
    """Compute the gradient of each clean image."""
    targeted = task.target_labels is not None
    labels = task.labels if task.target_labels is None else task.target_labels
    columns = []
    for batch in task.batches():
        data = parallel.spread((batch.images, labels[batch.index]))
        settings = {"loss": loss, "targeted": targeted}
        marks = tracing.run(_marks, task.models, *data, **settings)
        marks = (parallel.fetch(mark, len(batch.mask))[batch.mask] for mark in marks)
        columns.append(tuple(marks))
    zero, not_finite, length = map(np.concatenate, zip(*columns, strict=True))
    marks = {"gradient_zero": zero, "gradient_not_finite": not_finite}
    return {**marks, "length": length}


def _marks(
    models: Mapping[str, tracing.Traced],
    images: Array,
    labels: Array,
    *,
    loss: str,
    targeted: bool,
) -> tuple[Array, Array, Array]:
    """Return where a gradient is zero, where it is not finite, and its length."""
    # The floor of the margin would have no gradient.
    named = losses.logit_margin if loss == "margin" else losses.adversarial_loss(loss)

    def _total(images: Array) -> Array:
        logits = apply(models, images).astype(images.dtype)
        return jnp.sum(named(logits, labels, targeted=targeted))

    gradient = jax.grad(_total)(images).reshape(len(images), -1)
    finite = jnp.all(jnp.isfinite(gradient), axis=-1)
    length = jnp.linalg.norm(gradient, axis=-1)
    return jnp.all(gradient == 0, axis=-1), ~finite, length


def warn_of_masked_gradients(evaluation: Evaluation) -> None:
    """Warn if the attack had no gradient on more than 1 % of the counted images."""
    zero, not_finite = map(evaluation.share, ("gradient_zero", "gradient_not_finite"))
    if zero + not_finite > _MOST:  # NaN where unknown
        warnings.warn(
            f"The loss of the attack has a gradient of zero on {zero:.1%} of the clean "
            f"images, and one that is not finite on {not_finite:.1%}: gradients are "
            "masked, and robustness is overestimated. Pass logits, not probabilities; "
            "use the loss 'margin', a smooth model for the gradient, or `transfer`.",
            UserWarning,
            stacklevel=4,
        )
