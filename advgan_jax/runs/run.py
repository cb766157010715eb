"""A run: its configuration, folder and data set, and the rows that it reports."""

import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import Evaluation, make_row
from advgan_jax.runs import from_config


class Run(NamedTuple):
    """What every part of a run needs.

    Attributes:
      config: the resolved configuration.
      workdir: where the run leaves everything.
      dataset: training and test images.
    """

    config: ConfigDict
    workdir: pathlib.Path
    dataset: Dataset


def test_images(run: Run) -> Split:
    """The test split, or as much of its beginning as `evaluation.num_images` says."""
    test, wanted = run.dataset.test, run.config.evaluation.num_images
    return test if wanted is None else test.take(wanted)


def attack_row(
    run: Run,
    evaluation: Evaluation,
    *,
    attack: str,
    threat_model: str,
    epsilon: float | None,
    norm: str | None,
    queries: int | None = None,
) -> dict[str, Any]:
    """A row of `results.json`; what is the same in all rows comes from the run."""
    config = run.config
    return make_row(
        evaluation,
        experiment=config.method,
        dataset=config.dataset,
        target_model=from_config.target_model_title(config),
        attack=attack,
        threat_model=threat_model,
        epsilon=epsilon,
        norm=norm,
        seed=config.seed,
        queries=queries,
    )
