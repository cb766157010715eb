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
from advgan_jax.files import Path, writing


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
    """Replace a file once its new content is complete.

    Yields:
      The path to write to; missing folders are made. If the block raises, the partial
      file is deleted and the old one stays. Only the first of several processes
      replaces the file; the files of the others are deleted.

    Raises:
      OSError: if the file cannot be written; names it.
    """
    path = pathlib.Path(path)
    # In the same folder, because only within one file system is the move atomic. In a
    # private folder with a random name, where nobody can put a link in its place.
    parent = path.parent if parallel.is_first() else None
    with writing(path):
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=parent, prefix=f".{path.name}.", ignore_cleanup_errors=True
        ) as private:
            partial = pathlib.Path(private, path.name)
            yield partial
            if parent is not None:
                os.replace(partial, path)


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
