"""The folder of a run: whose it is, and what may go on in it."""

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from advgan_jax.reporting import write_json
from advgan_jax.runs import from_config

# Methods whose folders hold any number of runs: all they make is named by everything it
# depends on.
_NAMED_BY_CONTENT = {"reproduce", "szegedy"}

# What may differ between a run and its continuation: no weight made so far depends on
# it but by the rounding of sums. A budget that was spent may be raised, for the askings
# still to come.
_HARMLESS = (
    "data_dir",
    "target_model_dir",
    "max_resident_bytes",
    "parallel",
    "evaluation",
    "study",
    "queries.budget",
    "queries.batch_size",
)

# What a description leaves out where it is the default.
_UNTOLD = {"compute_dtype": from_config.DEFAULT_DTYPE}

LEDGER = "queries.ledger"  # what a black box was asked, and answered

# All that runs leave behind, but for their target models.
_FOLDERS = (
    "checkpoints",
    "tensorboard",
    "figures",
    "evaluations",
    "stage_one",
    "generators",
    "tables",
    "rows",
    "crafted",
)
_FILES = (
    "metrics.jsonl",
    "results.json",
    "config.json",
    "training_time.json",
    "pairs.json",
    "generators.json",
    "generators.md",
    LEDGER,
)


def claim(
    workdir: pathlib.Path, config: ConfigDict, *, resume: bool, overwrite: bool
) -> None:
    """Makes the folder this run's, unless it holds another."""
    if resume and overwrite:
        raise ValueError(
            "--resume goes on with a run and --overwrite discards it; give one of them."
        )
    saved, ours = workdir / "config.json", from_config.plain(config)
    if overwrite:
        for name in _FOLDERS:
            if (workdir / name).exists():
                shutil.rmtree(workdir / name)
        for name in _FILES:
            (workdir / name).unlink(missing_ok=True)
    if saved.exists():
        theirs = json.loads(saved.read_text(encoding="utf8"))
        methods = {theirs.get("method"), ours.get("method")}
        shared = methods <= _NAMED_BY_CONTENT
        differ = [] if shared else differences(theirs, ours)
        if differ:
            raise ValueError(
                f"{workdir} holds a run with another configuration "
                f"({'; '.join(differ)}); choose another --workdir, or discard that "
                "run with --overwrite."
            )
        if not resume:
            raise ValueError(
                f"{workdir} holds {'tables' if shared else 'this very run'} already; "
                "continue with --resume, discard what is there with --overwrite, or "
                "choose another --workdir."
            )
    elif resume:
        raise ValueError(f"{workdir} holds no run to resume; leave --resume out.")
    write_json(saved, ours)


def differences(saved: Mapping, ours: Mapping) -> list[str]:
    """In what two descriptions of a run differ, as far as weights depend on it.

    Args:
      saved: nested JSON values.
      ours: likewise.

    Returns:
      A sentence for each difference.
    """
    return _differences(without(saved, _HARMLESS), without(ours, _HARMLESS))


def _differences(saved: Mapping, ours: Mapping, prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*saved, *ours}):
        name = f"{prefix}{key}"
        a, b = (values.get(key, _UNTOLD.get(key)) for values in (saved, ours))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{name}.")
        elif a != b:
            found.append(f"{name} is {a} there and {b} here")
    return found


def without(value: Any, names: Sequence[str], path: str = "") -> Any:
    """Nested values without those whose path ends with one of some names.

    Args:
      value: JSON values.
      names: such as `evaluation`, of any part, or `queries.budget`.
      path: of the value itself.

    Returns:
      The rest.
    """
    if not isinstance(value, Mapping):
        return value
    ends = tuple(f".{name}" for name in names)
    return {
        key: without(item, names, f"{path}.{key}")
        for key, item in value.items()
        if not f"{path}.{key}".endswith(ends)
    }
