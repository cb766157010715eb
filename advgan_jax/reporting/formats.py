"""Formats of stored results; each has checksums, so no damaged value is loaded."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from advgan_jax import digest
from advgan_jax.evaluation import Evaluation
from advgan_jax.files import read_npz
from advgan_jax.reporting.files import replacing, to_json, write_json
from advgan_jax.types import Params

_EVALUATION = dataclasses.fields(Evaluation)


class Format(NamedTuple):
    """Save a kind of value to a path, and load it."""

    suffix: str
    save: Callable[[pathlib.Path, Any], None]
    load: Callable[[pathlib.Path], Any]


def _write(save: Callable[..., None], path: pathlib.Path, /, **arrays: Any) -> None:
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        save(file, **arrays)


def _save_evaluations(
    path: pathlib.Path, by_key: Mapping[float | None, Evaluation]
) -> None:
    tree = {json.dumps(key): _fields(found) for key, found in by_key.items()}
    arrays: Any = flatten_dict(tree, sep="/")
    _write(np.savez_compressed, path, **arrays)


def _fields(evaluation: Evaluation) -> dict[str, Any]:
    """Return what an evaluation knows; a rounded one is a dictionary itself."""
    values = {f.name: getattr(evaluation, f.name) for f in _EVALUATION}
    return {
        name: _fields(value) if isinstance(value, Evaluation) else value
        for name, value in values.items()
        if value is not None
    }


def _load_evaluations(path: pathlib.Path) -> dict[float | None, Evaluation]:
    tree = unflatten_dict(read_npz(path), sep="/")
    return {json.loads(key): _evaluation(fields) for key, fields in tree.items()}


def _evaluation(fields: Mapping[str, Any]) -> Evaluation:
    """Undo `_fields`."""
    values: dict[str, Any] = dict.fromkeys(f.name for f in _EVALUATION)
    for name, value in fields.items():
        if isinstance(value, dict):
            values[name] = _evaluation(value)
        else:
            values[name] = value if value.ndim else value.item()
    values["bounds"] = tuple(values["bounds"].tolist())
    return Evaluation(**values)


def _save_params(path: pathlib.Path, params: Params) -> None:
    arrays: Any = flatten_dict(jax.device_get(params), sep="/")
    _write(np.savez, path, **arrays)


def _load_params(path: pathlib.Path) -> Params:
    return jax.device_put(unflatten_dict(read_npz(path), sep="/"))


JSON = Format(  # NaN and infinity come back as None
    ".json",
    lambda path, value: write_json(path, digest.seal(to_json(value))),
    lambda path: digest.unseal(json.loads(path.read_bytes())),
)
ARRAY = Format(
    ".npz",
    lambda path, array: _write(np.savez, path, array=array),
    lambda path: read_npz(path)["array"],
)
# Evaluations by epsilon, by class, or by None for a single one.
EVALUATIONS = Format(".npz", _save_evaluations, _load_evaluations)
PARAMS = Format(".npz", _save_params, _load_params)
