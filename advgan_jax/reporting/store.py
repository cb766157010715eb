"""Store results under a fingerprint of every setting that affects them.

A file is named by a kind, in which `/` separates folders, and by a fingerprint of the
data's digest and of `depends_on`: JSON values of all settings that decide the result,
and no other. After a change of settings a run finds the results that the change does
not affect, and makes only the rest. Files are complete or absent. Several processes act
in step: all of them compute a result or load it, and the first one writes it.
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any

from advgan_jax import digest, parallel
from advgan_jax.files import reading
from advgan_jax.reporting.formats import JSON, Format


def fingerprint(values: Any) -> str:
    """Return eight hexadecimal digits that identify some JSON values."""
    return digest.of_json(values)[:8]


class Store:
    """The stored results of one folder, which need not exist yet."""

    def __init__(self, directory: str | pathlib.Path, data: Any = None) -> None:
        """Open a store of results from `data`, a JSON value; this writes nothing."""
        self.directory: pathlib.Path = pathlib.Path(directory).absolute()
        self._data = data

    def folder(self, kind: str, depends_on: Any, suffix: str = "") -> pathlib.Path:
        """Return the absolute path of a training's folder, or of a file by suffix."""
        slug = re.sub(r"[^\w.+/-]+", "_", kind)
        name = fingerprint([self._data, depends_on])
        return self.directory / f"{slug}-{name}{suffix}"

    def get(
        self, kind: str, depends_on: Any, make: Callable[[], Any], kept: Format = JSON
    ) -> Any:
        """Return a stored result, or compute it and store it in the format `kept`."""
        path = self.folder(kind, depends_on, kept.suffix)
        if parallel.agreed(path.exists()):
            return _load(path, kept)
        made = make()
        kept.save(path, made)
        return made  # other processes than the first may not see the file yet

    def find(self, kind: str, depends_on: Any, kept: Format = JSON) -> Any:
        """Return a stored result, or None."""
        path = self.folder(kind, depends_on, kept.suffix)
        return _load(path, kept) if parallel.agreed(path.exists()) else None


def _load(path: pathlib.Path, kept: Format) -> Any:
    with reading(path, "a stored result", "delete it to compute it again"):
        return kept.load(path)
