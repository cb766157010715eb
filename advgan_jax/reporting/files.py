"""Replace files atomically, so that a reader sees the old or the new content."""

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

    Yields:
      The path to write to; missing folders are made. If the block raises, the partial
      file is deleted and the old one stays. Only the first of several processes
      replaces the file; the files of the others are deleted.
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
    """Write a JSON file, completely or not at all; the value as in `to_json`.

    Raises:
      TypeError: if JSON cannot represent the value.
    """
    text = json.dumps(to_json(value), indent=2, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf8")


def to_json(value: Any) -> Any:
    """Convert mappings, sequences, and numpy and JAX arrays to the types of JSON.

    NaN and infinity, which JSON lacks, become None.
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
