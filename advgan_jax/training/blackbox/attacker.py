"""The attacker of a black box: a generator, a discriminator and a distilled model."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from advgan_jax import models
from advgan_jax.data import to_float
from advgan_jax.training import advgan, distillation
from advgan_jax.training.blackbox.choice import most_uncertain
from advgan_jax.training.blackbox.schedule import Schedule
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Array, LogitsFn

_BATCH = 500  # images per call of a network that is not being trained


class Attacker(NamedTuple):
    """The networks that the attacker trains; `model` and `optimizer` are those of f."""

    networks: advgan.Networks
    objective: advgan.AdvGANObjective
    model: nn.Module
    optimizer: optax.GradientTransformation


def init_state(
    attacker: Attacker,
    schedule: Schedule,
    key: Array,
    image_shape: tuple[int, int, int],
) -> BlackBoxState:
    """Initialise an attacker; see `training` for the arguments."""
    key_advgan, key_distilled = jax.random.split(key)
    return BlackBoxState(
        advgan.init_state(attacker.networks, key_advgan, image_shape),
        distillation.init_state(
            attacker.model, attacker.optimizer, key_distilled, image_shape
        ),
        jnp.zeros(len(schedule.query_counts), jnp.int32),
    )


def distilled_logits_fn(attacker: Attacker, state: BlackBoxState) -> LogitsFn:
    """Return the distilled model of a state, in inference mode."""
    return models.make_logits_fn(attacker.model, state.distilled.variables)


def perturb_images(
    attacker: Attacker, state: BlackBoxState, images: np.ndarray
) -> np.ndarray:
    """Perturb any number of images, uint8 or float32 in [0, 1]; return float32."""
    generator, params = attacker.networks.generator, state.advgan.generator.params
    epsilon = attacker.objective.epsilon
    return in_batches(lambda x: _perturb(generator, params, x, epsilon), images)


def perturb_most_uncertain(
    attacker: Attacker,
    state: BlackBoxState,
    images: np.ndarray,
    count: int,
    measure: str,
) -> np.ndarray:
    """Perturb all images; return the `count` about which f is the most uncertain."""
    perturbed = perturb_images(attacker, state, images)
    logits = logits_of(distilled_logits_fn(attacker, state), perturbed)
    return perturbed[most_uncertain(jnp.asarray(logits), count, measure)]


def logits_of(logits_fn: LogitsFn, images: np.ndarray) -> np.ndarray:
    """Return the logits of any number of images, uint8 or float32 in [0, 1]."""
    return in_batches(partial(_logits, logits_fn), images)


_logits = jax.jit(lambda logits_fn, images: logits_fn(images))
_perturb = jax.jit(advgan.perturb_images, static_argnums=(0, 3))


def in_batches(fn: Callable[[Any], Array], images: np.ndarray) -> np.ndarray:
    """Apply `fn` to batches of one size, filled up with the last image."""
    parts = []
    for start in range(0, len(images), _BATCH):
        rows = np.minimum(np.arange(start, start + _BATCH), len(images) - 1)
        parts.append(np.asarray(fn(to_float(images[rows]))))
    return np.concatenate(parts)[: len(images)]
