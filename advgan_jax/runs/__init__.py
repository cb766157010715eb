"""What the experiments do: whole runs, from a configuration to results."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import unknown_name
from advgan_jax.data import load_dataset
from advgan_jax.reporting import write_results
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import (
    advgan,
    aigan,
    attacks,
    blackbox,
    compare_generators,
    defence,
    target_model,
)
from advgan_jax.runs.papers import reproduce, szegedy
from advgan_jax.runs.run import Run
from advgan_jax.runs.training import Stopped
from advgan_jax.runs.workdir import claim

# Each has `check(config, dataset)` and `train(run) -> rows`.
METHODS = {
    "advgan": advgan,
    "advgan_blackbox": blackbox,
    "aigan": aigan,
    "attacks": attacks,
    "defence": defence,
    "generators": compare_generators,
    "reproduce": reproduce,
    "szegedy": szegedy,
    "target_model": target_model,
}

__all__ = ["METHODS", "Run", "Stopped", "train"]


def train(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Runs what `config.method` names, from training to results, and writes them all.

    Args:
      config: see `configs/`.
      workdir: a folder for this run; made if missing.
      resume: go on with the run that is in the folder.
      overwrite: discard the run that is in the folder, but keep its target models.

    Returns:
      The rows of `results.json`.

    Raises:
      Stopped: if a signal ended the run early; it can be resumed.
      ValueError: if the configuration is wrong, or the folder holds another run.
    """
    if config.method not in METHODS:
        raise unknown_name("method", config.method, METHODS)
    workdir = pathlib.Path(workdir).absolute()
    # Preparing a data set for the first time is for one process alone.
    with parallel.first_before_others():
        dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    METHODS[config.method].check(config, dataset)
    parallel.first_alone(
        lambda: claim(workdir, config, resume=resume, overwrite=overwrite)
    )
    rows = METHODS[config.method].run(Run(config, workdir, dataset))
    write_results(workdir, rows, from_config.plain(config))
    return rows
