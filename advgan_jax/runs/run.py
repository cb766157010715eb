"""A run: its configuration, its folder, its data set and the rows that it reports."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import Evaluation
from advgan_jax.reporting import SHOWN, kept_row, save_figure
from advgan_jax.reporting.store import Store
from advgan_jax.reporting.style import Figure
from advgan_jax.settings import UNDEFENDED
from advgan_jax.trainers import Options


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
        return Store(self.workdir, self.dataset.digest)

    @property
    def target_models(self) -> Store:
        """The trained target models, which runs with one `target_model_dir` share."""
        train, classes = self.dataset.train, self.dataset.num_classes
        folder = self.config.target_model_dir or self.workdir / "target_models"
        return Store(folder, [train.digest, classes])

    def options(
        self, section: ConfigDict, workdir: pathlib.Path, description: Mapping[str, Any]
    ) -> Options:
        """Return the options of a training that a section specifies."""
        config = self.config
        return Options(
            workdir,
            parallel=config.parallel,
            max_resident_bytes=config.max_resident_bytes,
            steps_per_call=section.steps_per_call,
            epochs_per_checkpoint=section.epochs_per_checkpoint,
            order_key=jax.random.key(config.seed + 1),
            description=description,
        )

    def save_figure(self, name: str, figure: Figure) -> None:
        """Save a figure as `figures/NAME.png`."""
        save_figure(figure, self.workdir / "figures" / f"{name}.png")

    @property
    def evaluation_options(self) -> dict[str, Any]:
        """Arguments that the functions of `advgan_jax.evaluation` share."""
        section = self.config.evaluation
        sizes = {"batch_size": section.batch_size, "keep": SHOWN}
        return {**sizes, "levels": section.levels, "progress": True}

    def wanted_labels(self, labels: np.ndarray) -> np.ndarray | None:
        """Return `target_class` for every image; None for an untargeted attack."""
        wanted = self.config.target_class
        return None if wanted is None else np.full_like(labels, wanted)

    def generator_row(
        self, evaluation: Evaluation, attack: str, **fields: Any
    ) -> dict[str, Any]:
        """Return the row of a generator, bounded by `epsilon` in L-infinity."""
        bound = {"epsilon": self.config.epsilon, "norm": "linf"}
        values = {"threat_model": "semi-white-box", **bound, **fields}
        return attack_row(self, evaluation, attack=attack, **values)


class Method(Protocol):
    """A value of `config.method` names a module with these two functions."""

    def check(self, config: ConfigDict, dataset: Dataset) -> None:
        """Raise `ValueError` or `TypeError` for a wrong configuration."""
        ...

    def run(self, run: Run) -> list[dict[str, Any]]:
        """Train and evaluate, or resume; return the rows of `results.json`."""
        ...


def check_evaluation(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` if the test images do not allow the section `evaluation`."""
    section, most = config.evaluation, len(dataset.test)
    for name, cure in (("num_images", "; omit it for all"), ("monitor_images", "")):
        number = section.get(name)  # only a black box has `monitor_images`
        if number is not None and number > most:
            raise ValueError(
                f"`{name}` must be from 1 to the {most} test images, got "
                f"{number}{cure}."
            )


def test_images(run: Run) -> Split:
    """Return the first `evaluation.num_images` test images, or all of them."""
    test, wanted = run.dataset.test, run.config.evaluation.num_images
    return test if wanted is None else test.take(wanted)


def run_fields(run: Run) -> dict[str, Any]:
    """Return the fields that all rows of a run share."""
    config, name = run.config, run.config.target_model
    # A table names each of its models itself.
    if "target_training" in config:
        defence = config.target_training.defence
        name += "" if defence == UNDEFENDED else f"-{defence}"
    return {
        "experiment": config.method,
        "dataset": config.dataset,
        "target_model": name,
        "seed": config.seed,
    }


def attack_row(run: Run, evaluation: Evaluation, **fields: Any) -> dict[str, Any]:
    """Return a row of `results.json`; see `evaluation.make_row` for other fields."""
    return kept_row(run.workdir, run.dataset, evaluation, **run_fields(run), **fields)
