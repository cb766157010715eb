"""Whole runs, from a configuration to results.

The commands call `train`. `methods` has one module for each kind of run, `papers` the
tables of the papers, and `from_config` turns a configuration into objects. Below this
package no module reads a configuration.
"""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import unknown_name
from advgan_jax.data import load_dataset
from advgan_jax.reporting.page import finish_run
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import (
    advgan,
    aigan,
    attacks,
    blackbox,
    compare_generators,
    defence,
    evaluate,
    query_frontier,
    target_model,
)
from advgan_jax.runs.papers import reproduce, szegedy
from advgan_jax.runs.run import Method, Run
from advgan_jax.runs.workdir import claim
from advgan_jax.settings import check_settings, complete
from advgan_jax.trainers import Stopped

METHODS: dict[str, Method] = {
    "advgan": advgan,
    "advgan_blackbox": blackbox,
    "aigan": aigan,
    "attacks": attacks,
    "defence": defence,
    "evaluate": evaluate,
    "generators": compare_generators,
    "query_frontier": query_frontier,
    "reproduce": reproduce,
    "szegedy": szegedy,
    "target_model": target_model,
}

__all__ = ["METHODS", "Method", "Run", "Stopped", "train"]


def train(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Run the method that `config.method` names, and write its results.

    Args:
      config: the configuration of the run, see `advgan_jax.configs`.
      workdir: a folder for this run; created if missing.
      resume: continue the run in the folder. Settings on which no checkpoint in the
        folder depends may differ.
      overwrite: discard the run in the folder, except its target models.

    Returns:
      The rows of `results.json`.

    Raises:
      Stopped: if a signal interrupted the run, which can then be resumed.
      ValueError: if the configuration is wrong, or the folder holds another run or is
        in use by one.
      TypeError: if a setting has a wrong type or name.
    """
    check_settings(config.to_dict())
    if config.method not in METHODS:
        raise unknown_name("method", config.method, METHODS)
    workdir, method = pathlib.Path(workdir).absolute(), METHODS[config.method]
    # Only one process prepares a data set.
    with parallel.first_before_others():
        dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    with complete():
        method.check(config, dataset)
        trains_generator = config.method in gans.DEPENDS_ON
        description = gans.describe(config, dataset) if trains_generator else None
    with parallel.locked(workdir):
        claim(workdir, config, description, resume=resume, overwrite=overwrite)
        rows = method.run(Run(config, workdir, dataset))
        finish_run(workdir, rows, from_config.plain(config))
    return rows
