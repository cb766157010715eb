"""The folder of a saved generator: `generator.json` and `generator.safetensors`.

The JSON file has everything but the weights, and a digest of all, weights included.
The zoo keeps its target models in the same form, and all its kernels in 8 bits.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import numpy as safetensors

from advgan_jax import digest
from advgan_jax.files import read_json, reading, writing
from advgan_jax.types import Params

GENERATOR, MODEL = "generator", "model"
RECORD = f"{GENERATOR}.json"
_CURE = "save the {} again, or copy the folder again"
_INT8, _SCALE = ":int8", ":scale"  # end the names of the two parts of a kernel


def save(
    folder: str | os.PathLike[str],
    record: Mapping[str, Any],
    params: Params,
    kind: str = GENERATOR,
    *,
    packed: bool = False,
) -> None:
    """Write a folder, completely or not at all; see `TrainedGenerator.save`.

    If `packed`, kernels (arrays of two axes or more) are rounded to 8 bits, with a
    scale for each output channel.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} exists; `save` needs a new folder or an empty one. Choose "
            "another name, or delete the old generator."
        )
    host = jax.device_get(params)
    arrays = {
        name: np.ascontiguousarray(leaf)
        for name, leaf in flatten_dict(host, sep="/").items()
    }
    arrays = _pack(arrays) if packed else arrays
    text = json.dumps({**record, "digest": _digest(record, arrays)}, indent=2)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            unfinished = pathlib.Path(partial, kind)
            unfinished.mkdir()
            weights = unfinished / f"{kind}.safetensors"
            weights.write_bytes(safetensors.save(arrays))
            (unfinished / f"{kind}.json").write_text(text + "\n", encoding="utf8")
            unfinished.replace(folder)


def load(
    folder: str | os.PathLike[str], kind: str = GENERATOR
) -> tuple[dict[str, Any], Params]:
    """Return the record and the weights; see `TrainedGenerator.load` for errors."""
    folder, cure = pathlib.Path(folder), _CURE.format(kind)
    files = (folder / f"{kind}.json", folder / f"{kind}.safetensors")
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"{folder} has no {file.name}; expected a folder that "
                "`TrainedGenerator.save` wrote."
            )
    record = read_json(files[0], f"a {kind}'s record", cure)
    known = record.pop("digest", None)
    with reading(files[1], f"a {kind}'s weights", cure):
        arrays = safetensors.load(files[1].read_bytes())
    if _digest(record, arrays) != known:
        raise ValueError(
            f"{folder} is damaged or was changed: its digest is not {known}; {cure}."
        )
    return record, jax.device_put(unflatten_dict(_unpack(arrays), sep="/"))


def _pack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays with each kernel in two parts, of 8 bits and a scale."""
    packed = {}
    for name, array in arrays.items():
        if array.ndim < 2:
            packed[name] = array
            continue
        largest = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        packed[name + _INT8] = np.rint(array / scale).astype(np.int8)
        packed[name + _SCALE] = scale
    return packed


def _unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays with each kernel of `_pack` as one float32 array."""
    packed = [n.removesuffix(_INT8) for n in arrays if n.endswith(_INT8)]
    parts = {name + end for name in packed for end in (_INT8, _SCALE)}
    whole = {name: array for name, array in arrays.items() if name not in parts}
    for name in packed:
        whole[name] = arrays[name + _INT8] * arrays[name + _SCALE]
    return whole


def _digest(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return a digest of a record and of the names and values of arrays."""
    each = {name: digest.of_array(array) for name, array in arrays.items()}
    return digest.of_json({"record": record, "arrays": each})
