"""Trained generators and target models that come with the library.

`list` names them, `load` returns one, and `card` describes it: what it was trained on
and with, the figures that it reaches, the command that trained it, and its licence.
Their kernels are stored in 8 bits, and the figures are those of the rounded weights.
`experiments/add_to_zoo.py` adds an entry. The commands `evaluate` and `export` take
`zoo:NAME` for a folder, and all commands take it for a target model.
"""

import builtins
import pathlib
from collections.abc import Mapping
from typing import Any

from advgan_jax.files import read_json
from advgan_jax.names import unknown_name

__all__ = ["card", "find", "list", "load"]

_ROOT = pathlib.Path(__file__).parent
_PREFIX = "zoo:"
_CURE = "install advgan_jax again"


def list() -> builtins.list[str]:  # as in `zoo.list()`
    """Return the names of all entries, such as `advgan/digits`."""
    return sorted(
        path.parent.relative_to(_ROOT).as_posix() for path in _ROOT.glob("*/*/*.json")
    )


def load(name: str) -> Any:
    """Return a trained generator or a target model.

    Args:
      name: an entry of `list`. Names that begin with `target/` are target models.

    Returns:
      A `TrainedGenerator`, which is an attack; or the `logits_fn` of a target model,
      which maps images `[B, H, W, C]` in [0, 1] to logits `[B, K]`, and jits.

    Raises:
      ValueError: if the name is unknown, or a file is damaged or was changed.
    """
    from advgan_jax.generators import TrainedGenerator, files, is_saved

    folder = _folder(name)
    if is_saved(folder):
        return TrainedGenerator.load(folder)
    from advgan_jax import models

    record, variables = files.load(folder, files.MODEL)
    model = models.make_classifier(record["architecture"], **record["arguments"])
    return models.make_logits_fn(model, variables)


def card(name: str) -> Mapping[str, Any]:
    """Return the model card of an entry as JSON values.

    Its keys are `dataset`, `trained_on`, `target` (the attacked entry, of a generator),
    `figures`, `command`, `licence`, `versions` and `digest`; of a generator also
    `figures_of_the_run`. A figure has a value, the ends `low` and `high` of its 95 %
    Wilson interval, and its denominator `of`.

    Raises:
      ValueError: if the name is unknown.
    """
    (path,) = _folder(name).glob("*.json")
    record = read_json(path, "the record of an entry of the zoo", _CURE)
    return {**record["card"], "digest": record["digest"]}


def find(path: str) -> str:
    """Return the folder of the entry that `zoo:NAME` names; any other path as it is.

    Raises:
      ValueError: if there is no such entry.
    """
    name = path.removeprefix(_PREFIX)
    return path if name == path else str(_folder(name))


def _folder(name: str) -> pathlib.Path:
    known = list()
    if name not in known:
        raise unknown_name("entry of the zoo", name, known)
    return _ROOT / name
