"""Trained generators as attacks, from a state in training or from a run's checkpoints.

A description of a generator is a dictionary of JSON values that each checkpoint keeps:
`kind` (the method that trained it), `generator` (class and fields of its module),
`epsilon` and `target_class`.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from advgan_jax import models
from advgan_jax.attacks import conditional_generator_attack, generator_attack
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.training.gan import make_generator_fn
from advgan_jax.types import Attack, Params

_MODULES = {
    module.__name__: module
    for module in (models.Generator, models.ConditionalGenerator)
}


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Return the class and the fields of a generator's module, for its description."""
    fields = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name")
    }
    return {"class": type(module).__name__, **fields}


def bind_generator(description: Mapping[str, Any], params: Params) -> Attack:
    """Return a described generator with its weights as an attack."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in description["generator"].items()
    }
    module: Any = _MODULES[fields.pop("class")](**fields)
    epsilon = description["epsilon"]
    generator_fn = make_generator_fn(module)
    if description["generator"]["class"] == models.ConditionalGenerator.__name__:
        return conditional_generator_attack(generator_fn, params, epsilon=epsilon)
    return generator_attack(
        generator_fn, params, epsilon=epsilon, target_class=description["target_class"]
    )


def load_generator(workdir: str | os.PathLike[str]) -> Attack:
    """Return a trained generator as an attack, from a run's checkpoints.

    Args:
      workdir: the workdir of an AdvGAN or AI-GAN run.

    Returns:
      An attack: `attack(logits_fn, images, labels, epsilon=0.3)`. Without `epsilon` it
      uses the bound of its training. If the generator was trained for one class, pass
      `targeted=True`; to AI-GAN's also the wanted classes as labels.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: if all checkpoints are damaged, or contain no generator.
    """
    with _opened(workdir) as checkpoints:
        description = _description(checkpoints, workdir)
        state = checkpoints.restore()
    # A black-box run trains a distilled model with the generator.
    return bind_generator(
        description, state.get("advgan", state)["generator"]["params"]
    )


def describe_generator(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the description of a run's generator; see `load_generator` for errors."""
    with _opened(workdir) as checkpoints:
        return _description(checkpoints, workdir)


@contextlib.contextmanager
def _opened(workdir: str | os.PathLike[str]) -> Iterator[Checkpoints]:
    # Opening creates the folder: a mistyped path would look like an empty run.
    directory = pathlib.Path(workdir) / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(
            f"No checkpoints in {directory}; expected the workdir of an AdvGAN or "
            "AI-GAN run."
        )
    with Checkpoints(directory) as checkpoints:
        yield checkpoints


def _description(
    checkpoints: Checkpoints, workdir: str | os.PathLike[str]
) -> dict[str, Any]:
    description = checkpoints.describe()
    if "generator" not in description:
        raise ValueError(
            f"{workdir} holds a {description.get('kind', 'run of another kind')}, no "
            "generator; expected the workdir of an AdvGAN or AI-GAN run."
        )
    return description
