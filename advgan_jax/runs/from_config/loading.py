"""Trained generators, from the folders of their runs."""

import os
import pathlib
from functools import partial

import jax
from ml_collections import ConfigDict

from advgan_jax.checkpointing import Checkpoints
from advgan_jax.runs.from_config.blackbox import blackbox_attacker
from advgan_jax.runs.from_config.gans import (
    advgan_networks,
    aigan_like,
    bind_aigan,
)
from advgan_jax.training import advgan, blackbox
from advgan_jax.types import Attack


def load_generator(path: str | os.PathLike[str]) -> Attack:
    """A trained generator as an attack, from a run's checkpoints.

    Args:
      path: the workdir of an AdvGAN or AI-GAN run.

    Returns:
      An attack: `attack(logits_fn, images, labels, epsilon=0.3)`. Its bound is the one
      of training unless the call says otherwise; a generator trained for one class is
      called with `targeted=True`, and so is AI-GAN's, with any wanted classes.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: if none is whole, or it is not one of a generator.
    """
    # Opening would make the folder, and a mistyped path look like an empty run.
    directory = pathlib.Path(path) / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(
            f"No checkpoints in {directory}; expected the workdir of an AdvGAN or "
            "AI-GAN run."
        )
    with Checkpoints(directory) as checkpoints:
        run = checkpoints.describe()
        if "image_shape" not in run:
            raise ValueError(
                f"{path} holds a {run.get('method', 'run of another kind')}, no "
                "generator; expected the workdir of an AdvGAN or AI-GAN run."
            )
        config = ConfigDict(run["config"])
        start = (jax.random.key(0), tuple(run["image_shape"]))
        if config.method == "advgan_blackbox":
            attacker, schedule = blackbox_attacker(config, run["num_classes"])
            fresh = partial(blackbox.init_state, attacker, schedule, *start)
            state = checkpoints.restore(jax.eval_shape(fresh))
            return blackbox.bind_generator(attacker, state)
        if config.method == "aigan":
            num_classes = run["num_classes"]
            like = aigan_like(config, num_classes, run["image_shape"])
            state = checkpoints.restore(like)
            return bind_aigan(state, config, num_classes)
        networks = advgan_networks(config, num_steps=1)
        fresh = partial(advgan.init_state, networks, *start)
        state = checkpoints.restore(jax.eval_shape(fresh))
    return advgan.bind_generator(
        networks, state, epsilon=config.epsilon, target_class=config.target_class
    )
