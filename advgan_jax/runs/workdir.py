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

LEDGER = "queries.ledger"  # the queries to a black box, and its answers
# Everything that runs write into their workdirs, except their target models. Other
# files there belong to the user, and `--overwrite` keeps them.
WRITTEN = (
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
    """Assign a folder to a run, or raise `ValueError` if it holds another run.

    A resumed run may change settings; its own checkpoints must match `description`.
    """
    if resume and overwrite:
        raise ValueError(
            "--resume continues a run and --overwrite discards it; give one of them."
        )
    saved, ours = workdir / "config.json", from_config.plain(config)
    if overwrite:
        parallel.first_alone(lambda: _delete(workdir))
    exists = parallel.agreed(saved.exists())
    method, directory, differ = config.method, workdir / "checkpoints", []
    if exists:
        method = json.loads(saved.read_text(encoding="utf8"))["method"]
    if method != config.method:
        differ = [f"method is {method} there and {config.method} here"]
    elif description is not None and parallel.agreed(directory.is_dir()):
        with Checkpoints(directory) as checkpoints:
            if checkpoints.steps():
                differ = differences(checkpoints.describe(), description)
    if differ:
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
    parallel.first_alone(lambda: write_json(saved, ours))


def _delete(workdir: pathlib.Path) -> None:
    for name in WRITTEN:
        path = workdir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
