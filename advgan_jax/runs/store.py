"""Store results under a fingerprint of every setting that affects them.

A file is named by a kind, in which `/` separates folders, and by a fingerprint of
`depends_on`: JSON values of all settings that decide the result, and no other. After a
change of settings a run finds the results that the change does not affect, and makes
only the rest. Files are complete or absent. Several processes act in step: all of them
compute a result or all of them load it, and the first one writes it.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from advgan_jax import parallel
from advgan_jax.evaluation import Evaluation
from advgan_jax.reporting import replacing, write_json
from advgan_jax.types import Params


class Format(NamedTuple):
    """Save a kind of value to a path, and load it."""

    suffix: str
    save: Callable[[pathlib.Path, Any], None]
    load: Callable[[pathlib.Path], Any]


def fingerprint(values: Any) -> str:
    """Return eight hexadecimal digits that identify some JSON values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _load_json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text(encoding="utf8"))


def _write(
    save: Callable[..., None], path: pathlib.Path, /, *array: Any, **arrays: Any
) -> None:
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        save(file, *array, **arrays)


def _save_evaluations(
    path: pathlib.Path, by_key: Mapping[float | None, Evaluation]
) -> None:
    arrays = {
        f"{json.dumps(key)}/{field.name}": getattr(evaluation, field.name)
        for key, evaluation in by_key.items()
        for field in dataclasses.fields(Evaluation)
        if getattr(evaluation, field.name) is not None
    }
    _write(np.savez_compressed, path, **arrays)


def _load_evaluations(path: pathlib.Path) -> dict[float | None, Evaluation]:
    found: dict[float | None, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for label, array in arrays.items():
            key, name = label.split("/")
            fields = found.setdefault(json.loads(key), {})
            fields[name] = array if array.ndim else array.item()
    names = (field.name for field in dataclasses.fields(Evaluation))
    missing: dict[str, Any] = dict.fromkeys(names)
    return {key: Evaluation(**(missing | fields)) for key, fields in found.items()}


def _save_params(path: pathlib.Path, params: Params) -> None:
    arrays: Any = flatten_dict(jax.device_get(params), sep="/")
    _write(np.savez, path, **arrays)


def _load_params(path: pathlib.Path) -> Params:
    with np.load(path) as arrays:
        return jax.device_put(unflatten_dict(dict(arrays), sep="/"))


JSON = Format(".json", write_json, _load_json)  # NaN and infinity come back as None
ARRAY = Format(".npy", partial(_write, np.save), np.load)
# Evaluations by epsilon, by class, or by None for a single one.
EVALUATIONS = Format(".npz", _save_evaluations, _load_evaluations)
PARAMS = Format(".npz", _save_params, _load_params)


class Store:
    """The stored results of one folder, which need not exist yet."""

    def __init__(self, directory: pathlib.Path) -> None:
        """Open a store; this writes nothing."""
        self.directory: pathlib.Path = pathlib.Path(directory).absolute()

    def folder(self, kind: str, depends_on: Any, suffix: str = "") -> pathlib.Path:
        """Return the absolute path of a training's folder, or of a file by suffix."""
        slug = re.sub(r"[^\w.+/-]+", "_", kind)
        return self.directory / f"{slug}-{fingerprint(depends_on)}{suffix}"

    def get(
        self, kind: str, depends_on: Any, make: Callable[[], Any], kept: Format = JSON
    ) -> Any:
        """Return a stored result, or compute it and store it in the format `kept`."""
        path = self.folder(kind, depends_on, kept.suffix)
        if parallel.agreed(path.exists()):
            return kept.load(path)
        made = make()
        kept.save(path, made)
        return made  # other processes than the first may not see the file yet

    def find(self, kind: str, depends_on: Any, kept: Format = JSON) -> Any:
        """Return a stored result, or None."""
        path = self.folder(kind, depends_on, kept.suffix)
        return kept.load(path) if parallel.agreed(path.exists()) else None
