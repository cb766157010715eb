"""The folder of a run: which run owns it, and what `--overwrite` deletes."""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checkpointing import Checkpoints, differences
from advgan_jax.reporting import write_json
from advgan_jax.runs import from_config

LEDGER = "queries.ledger"  # what a black box was asked, and what it answered

# Everything that runs write, except their target models.
_WRITTEN = (
    *("checkpoints", "stage_one", "generators", "training_time.json", LEDGER),
    *("evaluations", "crafted", "rows", "tables", "pairs.json", "generators.json"),
    *("tensorboard", "metrics.jsonl", "figures", "generators.md"),
    *("results.json", "config.json"),
)


def claim(
    workdir: pathlib.Path,
    config: ConfigDict,
    description: Mapping[str, Any] | None,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Make a folder this run's, unless it holds another run.

    A resumed run may change every setting on which nothing in the folder depends: names
    of files contain what the files depend on, and checkpoints describe it.

    Args:
      workdir: the folder; created if missing.
      config: the run's; saved as `config.json`.
      description: what checkpoints in the folder itself must depend on; None for a
        method that has none there.
      resume: whether the folder must hold this run.
      overwrite: whether to delete what the folder holds, except target models.

    Raises:
      ValueError: if the folder holds another run, or this one without `resume`, or no
        run with it.
    """
    if resume and overwrite:
        raise ValueError(
            "--resume continues a run and --overwrite discards it; give one of them."
        )
    saved, ours = workdir / "config.json", from_config.plain(config)
    if overwrite:
        parallel.first_alone(lambda: _delete(workdir))
    differ = _differences(workdir, ours["method"], description)
    if differ:
        raise ValueError(
            f"{workdir} holds a run with another configuration ({'; '.join(differ)}); "
            "choose another --workdir, or discard that run with --overwrite."
        )
    exists = parallel.agreed(saved.exists())
    if exists and not resume:
        raise ValueError(
            f"{workdir} holds a run already; continue it with --resume, discard it "
            "with --overwrite, or choose another --workdir."
        )
    if resume and not exists:
        raise ValueError(f"{workdir} holds no run to resume; leave --resume out.")
    parallel.first_alone(lambda: write_json(saved, ours))


def _differences(
    workdir: pathlib.Path, method: str, description: Mapping[str, Any] | None
) -> list[str]:
    """Return the differences to the run in the folder on which its files depend."""
    saved, directory = workdir / "config.json", workdir / "checkpoints"
    if parallel.agreed(saved.exists()):
        theirs = json.loads(saved.read_text(encoding="utf8"))["method"]
        if theirs != method:
            return [f"method is {theirs} there and {method} here"]
    if description is None or not parallel.agreed(directory.is_dir()):
        return []
    with Checkpoints(directory) as checkpoints:
        return (
            differences(checkpoints.describe(), description)
            if checkpoints.steps()
            else []
        )


def _delete(workdir: pathlib.Path) -> None:
    for name in _WRITTEN:
        path = workdir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
