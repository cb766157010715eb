"""The folder of a run: which run owns it, and what `--overwrite` deletes."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from advgan_jax import __version__, parallel
from advgan_jax.checkpointing import Checkpoints, differences
from advgan_jax.files import read_json
from advgan_jax.reporting import write_json
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans

MARK = "advgan_jax"  # the key of the version in the configuration of a run
LEDGER = "queries.ledger"  # the queries to a black box, and its answers
# Everything that runs write into their workdirs, except their target models. Other
# files there belong to the user, and `--overwrite` keeps them.
WRITTEN = (
    *("checkpoints", "stage_one", "generators", "training_time.json", LEDGER),
    *("evaluations", "crafted", "rows", "tables", "pairs.json", "generators.json"),
    *("tensorboard", "metrics.jsonl", "figures", "generators.md"),
    *("results.json", "config.json", "samples", "report.html"),
)


def claim(
    workdir: pathlib.Path,
    config: ConfigDict,
    description: Mapping[str, Any] | None,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Assign a folder to a run, or raise `ValueError` if it holds another run.

    A resumed run may change settings; its own checkpoints must match `description`.
    Without checkpoints, the data set and the settings of a generator must match.
    """
    if resume and overwrite:
        raise ValueError(
            "--resume continues a run and --overwrite discards it; give one of them."
        )
    saved, ours = workdir / "config.json", from_config.plain(config)
    parallel.first_alone(lambda: _check_owner(workdir, saved))
    if overwrite:
        parallel.first_alone(lambda: _delete(workdir))
    exists = parallel.agreed(saved.exists())
    if exists and (differ := _differences(workdir, saved, config, description)):
        raise ValueError(
            f"{workdir} holds a run with another configuration ({'; '.join(differ)}); "
            "choose another --workdir, or discard that run with --overwrite."
        )
    if exists and not resume:
        raise ValueError(
            f"{workdir} holds a run already; continue it with --resume, discard it "
            "with --overwrite, or choose another --workdir."
        )
    if resume and not exists:
        raise ValueError(f"{workdir} holds no run to resume; omit --resume.")
    parallel.first_alone(lambda: write_json(saved, {MARK: __version__, **ours}))


def _differences(
    workdir: pathlib.Path,
    saved: pathlib.Path,
    config: ConfigDict,
    description: Mapping[str, Any] | None,
) -> list[str]:
    """Return how the run in a folder differs from a configuration that resumes it."""
    theirs, directory = _read_config(saved), workdir / "checkpoints"
    method: Any = theirs.get("method")
    if method != config.method:
        return [f"method is {method} there and {config.method} here"]
    if description is not None and parallel.agreed(directory.is_dir()):
        with Checkpoints(directory) as checkpoints:
            if checkpoints.steps():
                return differences(checkpoints.describe(), description)
    # Other methods store each result under the settings on which it depends.
    names = () if method == "attacks" else gans.DEPENDS_ON.get(method, ())
    prefixes = tuple(f"{name}{end}" for name in ("dataset", *names) for end in " .")
    found = differences(theirs, from_config.plain(config))
    return [sentence for sentence in found if sentence.startswith(prefixes)]


def _check_owner(workdir: pathlib.Path, saved: pathlib.Path) -> None:
    """Raise `ValueError` for a folder with files of somebody else's."""
    if saved.exists():
        _read_config(saved)
        return
    found = [name for name in WRITTEN if (workdir / name).exists()]
    if found:
        raise ValueError(
            f"{workdir} has {', '.join(found)} but no config.json, so they may be "
            "somebody else's; choose another --workdir, or move them away."
        )


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    """Return a configuration that a run has saved; `ValueError` for any other file."""
    cure = "choose another --workdir, or delete this one yourself if a run made it"
    config = read_json(path, expected := "the configuration of a run", cure)
    if MARK not in config:
        raise ValueError(
            f"{path} must be {expected}, but lacks the key `{MARK}`, so it may be "
            f"somebody else's; {cure}. To resume a run of version 0.2.0, add "
            f'`"{MARK}": "0.2.0"` to that file.'
        )
    return config


def _delete(workdir: pathlib.Path) -> None:
    for name in WRITTEN:
        path = workdir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
