"""Prepare sets of TensorFlow Datasets (TFDS), four of them without TensorFlow.

The download manager of TFDS checks files, caches them, and renames its temporary folder
only after it has written everything.
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

from advgan_jax.files import one_line

WITHOUT_TENSORFLOW = ("mnist", "fashion_mnist", "cifar10", "cifar100")
_PROBE_SECONDS = 5.0

Path = str | os.PathLike[str]


def resolve_data_dir(data_dir: Path | None = None) -> str:
    """Return the folder of prepared sets; TFDS reads the environment only on import."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.expanduser(data_dir or default)


def prepare_dataset(
    name: str, *, data_dir: Path | None = None, manual_dir: Path | None = None
) -> None:
    """Write a missing set into `data_dir` as array_record files.

    Args:
      name: `name`, `name/config` or `name:version`, as in TFDS.
      data_dir: the folder of prepared sets; see `load_dataset`, also for errors.
      manual_dir: a folder with original files, which replace a download; default
        `data_dir/downloads/manual`.

    Raises:
      OSError: if a file cannot be read or written.
      ValueError: if the set cannot be prepared for another reason, for example because
        an original file has a wrong checksum.
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
        tfds.disable_progress_bar()  # TFDS cannot report whether it was on
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception as error:  # of a damaged file, of the network, of a full disk
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(
            f"data set {name!r} cannot be prepared in {data_dir} ({one_line(error)}); "
            f"check the original files in {manual_dir}, the network and the disk."
        ) from error


def is_prepared(builder: Any) -> bool:
    """Return whether a TFDS builder finds its complete set on disk."""
    return (builder.data_path / "dataset_info.json").exists()


def can_reach(url: str, seconds: float = _PROBE_SECONDS) -> bool:
    """Return whether a host answers one request within `seconds`, with any status."""
    answered = threading.Event()

    def _send() -> None:
        # Through proxies, like TFDS, but without its retries, which take minutes.
        try:
            requests.head(url, timeout=seconds).close()
        except requests.RequestException:
            return
        answered.set()

    # A thread, because the time limit of a request excludes name resolution.
    thread = threading.Thread(target=_send, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def _make_builder(name: str, data_dir: str) -> Any:
    """Return a builder that can prepare the set here, or `ModuleNotFoundError`."""
    if name in WITHOUT_TENSORFLOW:
        from advgan_jax.data import _originals

        builder_class: Any = _originals.BUILDERS[name]
        return builder_class(data_dir=data_dir, file_format="array_record")
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
        f"prepare it ({', '.join(WITHOUT_TENSORFLOW)} need none). Run once, in any "
        "environment: pip install importlib_resources tensorflow-cpu "
        f"tensorflow-datasets && python -c {shlex.quote(code)}"
    )


def _require_network(
    name: str, builder: Any, downloads: pathlib.Path, manual_dir: pathlib.Path
) -> None:
    """Raise `ConnectionError` if a file is missing and its host does not answer."""
    from tensorflow_datasets.core.download import resource

    missing = {}  # URLs, by name, of the files that TFDS would download
    for url, info in (builder.url_infos or {}).items():
        filename = info.filename or url.rpartition("/")[2]
        cached = downloads.glob(f"**/{resource.get_dl_fname(url, info.checksum)}")
        if not any(cached) and not (manual_dir / filename).exists():
            missing[filename] = url
    if not missing or can_reach(url := next(iter(missing.values()))):
        return
    raise ConnectionError(
        f"data set {name!r} is not prepared in {builder.data_path}, and "
        f"{urllib.parse.urlsplit(url).netloc} cannot be reached (one request of "
        f"{_PROBE_SECONDS:g} s). Missing: {', '.join(missing)}. Either connect to the "
        f"network; or put the original files into {manual_dir}; or set TFDS_DATA_DIR "
        f"(or `data_dir`) to a folder that has {name!r} prepared as array_record; or "
        "use `digits`, which needs no download."
    )
