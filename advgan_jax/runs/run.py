"""A run: its configuration, its folder, its data set and the rows that it reports."""

import pathlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checks import check_at_least
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import Evaluation, make_row
from advgan_jax.runs.from_config import target_models
from advgan_jax.runs.store import Store


class Run(NamedTuple):
    """The configuration, the folder and the data set of a run.

    Attributes:
      config: the resolved configuration.
      workdir: the folder of everything that the run writes.
      dataset: training and test images.
    """

    config: ConfigDict
    workdir: pathlib.Path
    dataset: Dataset

    @property
    def store(self) -> Store:
        """The store of the run's workdir."""
        return Store(self.workdir)

    @property
    def target_models(self) -> Store:
        """The trained target models, which runs with one `target_model_dir` share."""
        return Store(self.config.target_model_dir or self.workdir / "target_models")


class Method(Protocol):
    """A value of `config.method` names a module with these two functions."""

    def check(self, config: ConfigDict, dataset: Dataset) -> None:
        """Raise `ValueError` or `TypeError` for a wrong configuration."""
        ...

    def run(self, run: Run) -> list[dict[str, Any]]:
        """Train and evaluate; return the rows of `results.json`.

        It reuses what an interrupted run stored. After a signal it saves the state and
        raises `Stopped`.
        """
        ...


def check_evaluation(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` if the test images do not allow the section `evaluation`."""
    section, most = config.evaluation, len(dataset.test)
    if section.num_images is not None and not 1 <= section.num_images <= most:
        raise ValueError(
            f"`num_images` must be from 1 to the {most} test images, got "
            f"{section.num_images}; omit it for all."
        )
    check_at_least("grid_images", section.grid_images, 1)


def test_images(run: Run) -> Split:
    """Return the first `evaluation.num_images` test images, or all of them."""
    test, wanted = run.dataset.test, run.config.evaluation.num_images
    return test if wanted is None else test.take(wanted)


def wanted_labels(config: ConfigDict, labels: np.ndarray) -> np.ndarray | None:
    """Return `target_class` for every image; None for an untargeted attack."""
    wanted = config.target_class
    return None if wanted is None else np.full_like(labels, wanted)


def run_fields(run: Run) -> dict[str, Any]:
    """Return the fields that all rows of a run share."""
    config = run.config
    return {
        "experiment": config.method,
        "dataset": config.dataset,
        "target_model": target_models.title(config),
        "seed": config.seed,
    }


def attack_row(run: Run, evaluation: Evaluation, **fields: Any) -> dict[str, Any]:
    """Return a row of `results.json`; see `evaluation.make_row` for other fields."""
    return make_row(evaluation, **run_fields(run), **fields)


def generator_row(
    run: Run, evaluation: Evaluation, attack: str, **fields: Any
) -> dict[str, Any]:
    """Return the row of a generator, which `config.epsilon` bounds in L-infinity."""
    values = {"threat_model": "semi-white-box", "norm": "linf", **fields}
    return attack_row(
        run, evaluation, attack=attack, epsilon=run.config.epsilon, **values
    )
