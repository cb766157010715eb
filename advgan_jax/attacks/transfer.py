"""Transfer: attack a model by adversarial images of surrogate models."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike

from advgan_jax import checks
from advgan_jax.attacks._api import share_args
from advgan_jax.attacks.gradient import pgd
from advgan_jax.logits import as_function, check_inputs, check_logits_fn, predict
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


def _mean_logits(members: tuple[LogitsFn, ...], images: Array) -> Array:
    return jnp.asarray(sum(member(images) for member in members)) / len(members)


def _mean_log_probabilities(members: tuple[LogitsFn, ...], images: Array) -> Array:
    logs = [jax.nn.log_softmax(member(images), axis=-1) for member in members]
    return jnp.asarray(sum(logs)) / len(members)


AVERAGES: dict[str, Callable[[tuple[LogitsFn, ...], Array], Array]] = {
    "logits": _mean_logits,
    "log_probabilities": _mean_log_probabilities,
}


def average_models(surrogates: Sequence[LogitsFn], average: str = "logits") -> LogitsFn:
    """Return several models as one.

    Args:
      surrogates: models of the same classes.
      average: of their `logits` or their `log_probabilities`. The latter averages
        cross-entropies, so no model dominates by the scale of its logits.

    Returns:
      A model; a pytree that jitted functions take as an argument if its members are.

    Raises:
      ValueError: without models, or for an unknown average.

    References:
      Dong et al., 2018 (https://arxiv.org/abs/1710.06081), Sec. 3.3.
    """
    if average not in AVERAGES:
        raise checks.unknown_name("average", average, AVERAGES)
    if not surrogates:
        raise ValueError("`surrogate_fn` must name at least one model, got none.")
    members = tuple(as_function(member, "surrogate_fn").fn for member in surrogates)
    return members[0] if len(members) == 1 else Partial(AVERAGES[average], members)


@share_args
def transfer(
    logits_fn: LogitsFn,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    surrogate_fn: LogitsFn | Sequence[LogitsFn],
    attack: Attack = pgd,
    average: str = "logits",
    key: Array | None = None,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
    **hyperparams: Any,
) -> Array:
    """Attack a surrogate instead of the model.

    Args:
      logits_fn: the attacked model, a black box. It only predicts `labels` where they
        are None; outside `jit` a check also evaluates it on eight images.
      surrogate_fn: the model whose gradients are used, or several.
      attack: the attack on the surrogate.
      average: of several surrogates, `logits` or `log_probabilities`.
      **hyperparams: those of `attack`.

    Returns:
      Adversarial images of the surrogate.

    Raises:
      ValueError: if the models have different numbers of classes.

    References:
      Papernot et al., 2017 (https://arxiv.org/abs/1602.02697); Tramer et al., 2018
      (https://arxiv.org/abs/1705.07204), for the attacks on static surrogates.
    """
    members = surrogate_fn if isinstance(surrogate_fn, Sequence) else (surrogate_fn,)
    model = as_function(logits_fn)
    images, _ = check_inputs(model, images, labels, bounds)
    num_classes = check_logits_fn(model, images)
    for member in members:
        other = check_logits_fn(as_function(member, "surrogate_fn"), images)
        if other != num_classes:
            raise ValueError(
                f"`surrogate_fn` must have the {num_classes} classes of `logits_fn`, "
                f"got {other}."
            )
    if labels is None and not targeted:
        labels = predict(model, images)
    run = partial(attack, average_models(members, average), images, labels)
    return run(key=key, targeted=targeted, bounds=bounds, **hyperparams)
