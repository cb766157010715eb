"""Preparing sets of TensorFlow Datasets, four of them without TensorFlow.

Everything goes through TFDS' own download manager: its checksums, its cache of
downloads, and its temporary folder that is renamed only when it is whole.
"""

import importlib.util
import json
import os
import pathlib
import shlex
import sys
import threading
import urllib.parse
from typing import Any

import requests

WITHOUT_TENSORFLOW = ("mnist", "fashion_mnist", "cifar10", "cifar100")
_PROBE_SECONDS = 5.0

Path = str | os.PathLike[str]


def resolve_data_dir(data_dir: Path | None = None) -> str:
    """The folder of prepared sets.

    TFDS reads the environment once, when it is imported; this reads it at every call.

    Args:
      data_dir: a folder, or None for `TFDS_DATA_DIR`, or else TFDS' own default.

    Returns:
      The folder, which need not exist.
    """
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.expanduser(data_dir or default)


def prepare_dataset(
    name: str, *, data_dir: Path | None = None, manual_dir: Path | None = None
) -> None:
    """Writes a set into `data_dir` as array_record files; does nothing if it is there.

    `mnist`, `fashion_mnist`, `cifar10` and `cifar100` need no TensorFlow.

    Args:
      name: of a set of TensorFlow Datasets, `name`, `name/config`, `name:version`.
      data_dir: where to; default as in `resolve_data_dir`.
      manual_dir: a folder with original files, which are then not downloaded;
        default `data_dir/downloads/manual`.

    Raises:
      ConnectionError: if a file must be fetched and its host does not answer.
      ModuleNotFoundError: if only TensorFlow can prepare this set and it is absent.
      NonMatchingChecksumError: (of TFDS) if a file is not the original one.
    """
    import tensorflow_datasets as tfds

    data_dir = resolve_data_dir(data_dir)
    downloads = pathlib.Path(data_dir, "downloads")
    manual_dir = pathlib.Path(manual_dir or downloads / "manual").expanduser()
    builder = _make_builder(name, data_dir)
    if is_prepared(builder):
        return
    _require_network(name, builder, downloads, manual_dir)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # TFDS has no way to ask whether it was on
    builder.download_and_prepare(
        download_dir=downloads,
        download_config=tfds.download.DownloadConfig(
            manual_dir=manual_dir, try_download_gcs=False
        ),
    )


def is_prepared(builder: Any) -> bool:
    """Whether a TFDS builder finds its set on disk, whole.

    Args:
      builder: a `tfds.core.DatasetBuilder`.

    Returns:
      True if the set can be read.
    """
    return (builder.data_path / "dataset_info.json").exists()


def can_reach(url: str, seconds: float = _PROBE_SECONDS) -> bool:
    """Asks once whether a host answers, whatever it answers.

    Goes the way TFDS goes, so that proxies count, but without its retries, which take
    minutes. A thread, because a time limit on requests does not bound name resolution.

    Args:
      url: any address at the host.
      seconds: how long to wait.

    Returns:
      False if nothing came back in time.
    """
    answered = threading.Event()

    def ask():
        try:
            requests.head(url, timeout=seconds).close()
        except requests.RequestException:
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def _make_builder(name: str, data_dir: str) -> Any:
    if name in WITHOUT_TENSORFLOW:
        from advgan_jax.data import originals

        return originals.BUILDERS[name](data_dir=data_dir, file_format="array_record")
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    if is_prepared(builder) or importlib.util.find_spec("tensorflow"):
        return builder
    code = (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder({json.dumps(name)}, data_dir={json.dumps(data_dir)}, "
        'file_format="array_record").download_and_prepare()'
    )
    raise ModuleNotFoundError(
        f"data set {name!r} is not prepared in {data_dir}, and only TensorFlow can "
        f"prepare it ({', '.join(WITHOUT_TENSORFLOW)} do without). Run once, in any "
        "environment: pip install importlib_resources tensorflow-cpu "
        f"tensorflow-datasets && python -c {shlex.quote(code)}"
    )


def _require_network(
    name: str, builder: Any, downloads: pathlib.Path, manual_dir: pathlib.Path
) -> None:
    missing = _list_missing(builder, downloads, manual_dir)
    if not missing:
        return
    url = next(iter(missing.values()))
    if can_reach(url):
        return
    raise ConnectionError(
        f"data set {name!r} is not prepared in {builder.data_path}, and "
        f"{urllib.parse.urlsplit(url).netloc} cannot be reached (asked once, for "
        f"{_PROBE_SECONDS:g} s at most). Missing: {', '.join(missing)}. Either connect "
        f"to the network; or put the original files into {manual_dir}; or set "
        f"TFDS_DATA_DIR (or `data_dir`) to a folder that has {name!r} prepared as "
        "array_record; or use `digits`, which needs no download."
    )


def _list_missing(
    builder: Any, downloads: pathlib.Path, manual_dir: pathlib.Path
) -> dict[str, str]:
    """Files that TFDS would have to fetch: address by name."""
    from tensorflow_datasets import download

    missing = {}
    for url, info in (builder.url_infos or {}).items():
        filename = info.filename or url.rpartition("/")[2]
        cached = download.resource.get_dl_fname(url, info.checksum)
        in_cache = any(downloads.glob(f"**/{cached}"))
        if not in_cache and not (manual_dir / filename).exists():
            missing[filename] = url
    return missing
