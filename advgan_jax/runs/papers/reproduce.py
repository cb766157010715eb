"""The tables of AdvGAN's and AI-GAN's papers and of the MNIST challenge."""

import pathlib
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

from ml_collections import ConfigDict

from advgan_jax.attacks import trace_attack
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.models import CLASSIFIERS
from advgan_jax.runs import from_config, runner
from advgan_jax.runs.artifacts import GENERATORS, GeneratorArtifacts
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.papers.advgan import black_box, semi_white_box, speed, success
from advgan_jax.runs.papers.aigan import compared
from advgan_jax.runs.papers.madry import challenge
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.runs.run import Run, check_evaluation

TABLES = {
    "1": speed,
    "2": success,
    "3": semi_white_box,
    "4": black_box,
    "challenge": challenge,
    "aigan": compared,
}
# The method of each section of the configuration.
_METHODS = {
    "advgan": advgan,
    "aigan": aigan,
    "blackbox": blackbox,
    "fitted": advgan,
    "generators": compare_generators,
}
# Settings that the tables overwrite, with the only value that is accepted.
_OVERWRITTEN = {
    ("advgan", "target_training", "defence"): from_config.UNDEFENDED,
    ("blackbox", "distillation"): "dynamic",
    # With a budget, a generator would have fewer answers than its row reports.
    ("blackbox", "queries", "budget"): None,
    ("generators", "aigan_workdir"): None,
    ("generators", "advgan_workdirs"): None,
    ("generators", "advgan", "target_class"): None,
    **{(name, "target_class"): None for name in ("advgan", "fitted", "blackbox")},
}


def run(run: Run) -> list[dict[str, Any]]:
    """Make the configured table, or all of them."""
    return runner.run(GeneratorArtifacts(run), TABLES, run.config.table)


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Reject a wrong configuration before anything is written."""
    runner.check_choice("table", config.table, TABLES)
    check_evaluation(config, dataset)
    check_at_least("evaluation.batch_size", config.evaluation.batch_size, 1)
    check_at_least("num_timed", config.num_timed, 1)
    check_at_least("num_surrogates", config.num_surrogates, 1)
    unknown = sorted(set(config.trainings) - set(CLASSIFIERS))
    if unknown:
        raise unknown_name("target model in `trainings`", unknown[0], CLASSIFIERS)
    for name in ("models", "aigan_models"):
        if not config[name]:
            raise ValueError(f"`{name}` must name at least one model, got none.")
    for path, value in _OVERWRITTEN.items():
        found = reduce(getitem, path, config)
        if found != value:
            raise ValueError(
                f"`{'.'.join(path)}` is set by the tables and must stay {value!r}, got "
                f"{found!r}; remove the override."
            )
    _check_entries(config, dataset)


def _check_entries(config: ConfigDict, dataset: Dataset) -> None:
    """Check every training and attack that the chosen tables need."""
    artifacts = GeneratorArtifacts(Run(config, pathlib.Path(), dataset))
    tables = runner.tables_of(config, TABLES, config.table)
    rows = [row for table in tables for row in table.rows]
    entries = [entry for row in rows for entry in row.entries.values()]
    # Many entries need the same: each is checked once.
    for section, model in dict.fromkeys(p for e in entries for p in _trainings(e)):
        own = artifacts.config_of(model, section)
        _METHODS[section].check(own, dataset)
        if section == "fitted":
            from_config.training_plan(own.training, artifacts.training_set(section))
    names = {entry.attack for entry in entries if entry.attack is not None}
    for name in names - set(GENERATORS):
        _check_attack(config, name, dataset)


def _trainings(entry: Entry) -> Iterator[tuple[str, TargetModel]]:
    """Yield the section and the model of each training that an entry needs."""
    for model in entry.models:
        yield model.section, model
    if entry.metric.startswith("success_"):
        yield "generators", entry.on
    elif entry.attack in GENERATORS:
        yield GENERATORS[entry.attack], entry.through[0]


def _check_attack(config: ConfigDict, name: str, dataset: Dataset) -> None:
    if name not in config.attacks:
        raise unknown_name("attack", name, config.attacks)
    attack = from_config.bound_attack(config, name)
    trace_attack(attack, dataset.train.image_shape, dataset.num_classes)
    own = config.attacks[name].get("epsilon", config.epsilon)
    if own != config.epsilon:
        raise ValueError(
            f"`attacks.{name}.epsilon` must be the `epsilon` of all attacks, "
            f"{config.epsilon:g}, got {own:g}; set --config.epsilon alone."
        )
