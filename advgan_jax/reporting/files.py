"""Files that are either whole or as they were before."""

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
    """Writes a file beside its place and moves it there when it is complete.

    Args:
      path: where the file shall be; missing folders are made.

    Yields:
      The path to write to. If the block raises, it is deleted, and what was at `path`
      before stays. Of several processes the first writes the file; what the others
      write is deleted.
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
    """Writes a JSON file, whole or not at all.

    Args:
      path: where to.
      value: mappings, sequences, numbers, strings, numpy and JAX arrays. NaN and
        infinity, which JSON does not have, become null.

    Raises:
      TypeError: if something in `value` has no form in JSON.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf8")


def plain(value: Any) -> Any:
    """A value in the types that JSON has.

    Args:
      value: see `write_json`.

    Returns:
      The same with dicts, lists and Python numbers; NaN and infinity as None.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
