"""Files that are either complete or as they were before."""

import contextlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from advgan_jax import parallel

Path = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
    """Replace a file once its new content is complete.

    Args:
      path: the file; missing folders are made.

    Yields:
      The path to write to. If the block raises, it is deleted and the old file stays.
      Of several processes the first writes the file; what the others write is deleted.
    """
    path = pathlib.Path(path)
    if not parallel.is_first():
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder, path.name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: only within one file system is the move atomic.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, completely or not at all.

    Args:
      path: the file.
      value: mappings, sequences, numbers, strings, numpy and JAX arrays. NaN and
        infinity, which JSON lacks, become null.

    Raises:
      TypeError: if `value` contains anything else.
    """
    text = json.dumps(to_json(value), indent=2, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf8")


def to_json(value: Any) -> Any:
    """Convert a value to the types of JSON.

    Args:
      value: see `write_json`.

    Returns:
      The same as dicts, lists and Python numbers; NaN and infinity as None.
    """
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
