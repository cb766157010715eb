"""Trained generators from the checkpoints of a run, finished or not.

The description in a checkpoint is a dictionary of JSON values: `kind` (the method that
trained it), `generator` (class and fields of its module), `epsilon`, `target_class`,
`num_classes`, `image_shape`, and every setting on which the weights depend.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn

from advgan_jax.generators.files import RECORD
from advgan_jax.generators.trained import TrainedGenerator
from advgan_jax.types import Params

if TYPE_CHECKING:
    from advgan_jax.checkpointing import Checkpoints


def load_generator(
    workdir: str | os.PathLike[str], *, module: nn.Module | None = None
) -> TrainedGenerator:
    """Return the generator of a run from its latest checkpoint, or a saved one.

    Args:
      workdir: the workdir of an AdvGAN or AI-GAN run, or a folder that
        `TrainedGenerator.save` wrote.
      module: the module of the training, if it is of your own class.

    Returns:
      The generator, an attack: `attack(logits_fn, images, labels, epsilon=0.3)`. If it
      was trained for one class, pass `targeted=True`; to AI-GAN's also the wanted
      classes as labels.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: if all checkpoints are damaged, or contain no generator.
    """
    if is_saved(workdir):
        return TrainedGenerator.load(workdir, module=module)
    with _opened(workdir) as checkpoints:
        description = _description(checkpoints, workdir)
        state = checkpoints.restore()
    # A black-box run trains a distilled model with the generator.
    params = state.get("advgan", state)["generator"]["params"]
    return from_description(description, params, module=module, where=str(workdir))


def is_saved(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder is one that `TrainedGenerator.save` wrote."""
    return pathlib.Path(folder, RECORD).is_file()


def find_threat_model(
    folder: str | os.PathLike[str], target_model: Mapping[str, Any]
) -> str | None:
    """Return the threat model of a generator against a described target model.

    A generator that was trained against another model transfers. None if the folder
    does not contain the description of that model, as a saved generator's.
    """
    described = {} if is_saved(folder) else describe_generator(folder)
    trained_against = described.get("target_model")
    if trained_against is None:
        return None
    if trained_against != target_model:
        return "transfer"
    is_queried = described["kind"] == "advgan_blackbox"
    return f"black-box-{described['distillation']}" if is_queried else "semi-white-box"


def from_description(
    description: Mapping[str, Any],
    params: Params,
    *,
    module: nn.Module | None = None,
    where: str = "the description",
    **trained_on: Any,
) -> TrainedGenerator:
    """Build a generator from the description of its training; see `TrainedOn`."""
    known = {"name": description["kind"], "seed": description.get("seed")}
    optional = {
        "target_class": None,
        "bounds": (0.0, 1.0),
        "conditional": description["kind"] == "aigan",
    }
    record = {**optional, **description, "trained_on": {**known, **trained_on}}
    return TrainedGenerator.from_record(record, params, module=module, where=where)


def describe_generator(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the description of a run's generator; see `load_generator` for errors."""
    with _opened(workdir) as checkpoints:
        return _description(checkpoints, workdir)


@contextlib.contextmanager
def _opened(workdir: str | os.PathLike[str]) -> Iterator["Checkpoints"]:
    # Orbax need not be installed to load a saved generator.
    from advgan_jax.checkpointing import Checkpoints

    # Opening creates the folder: a mistyped path would look like an empty run.
    directory = pathlib.Path(workdir) / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(
            f"No checkpoints in {directory}; expected the workdir of an AdvGAN or "
            "AI-GAN run, or the folder of a saved generator."
        )
    with Checkpoints(directory) as checkpoints:
        yield checkpoints


def _description(
    checkpoints: "Checkpoints", workdir: str | os.PathLike[str]
) -> dict[str, Any]:
    description = checkpoints.describe()
    if "generator" not in description:
        raise ValueError(
            f"{workdir} holds a {description.get('kind', 'run of another kind')}, no "
            "generator; expected the workdir of an AdvGAN or AI-GAN run."
        )
    return description
