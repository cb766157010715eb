"""The tables of AdvGAN's and AI-GAN's papers and of the MNIST challenge."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from advgan_jax.attacks import trace_attack
from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.models import CLASSIFIERS
from advgan_jax.runs import from_config, runner
from advgan_jax.runs.artifacts import GENERATORS, GeneratorArtifacts
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.papers.advgan import black_box, semi_white_box, speed, success
from advgan_jax.runs.papers.aigan import compared
from advgan_jax.runs.papers.madry import challenge
from advgan_jax.runs.run import Run, check_evaluation
from advgan_jax.settings import UNDEFENDED

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
    "advgan.target_training.defence": UNDEFENDED,
    "blackbox.distillation": "dynamic",
    # With a budget, a generator would have fewer answers than its row reports.
    "blackbox.queries.budget": None,
    **dict.fromkeys(("generators.aigan_workdir", "generators.advgan_workdirs")),
    **{
        f"{name}.target_class": None
        for name in ("advgan", "fitted", "blackbox", "generators.advgan")
    },
}


def run(run: Run) -> list[dict[str, Any]]:
    """Make the configured table, or all of them."""
    return runner.run(GeneratorArtifacts(run), TABLES, run.config.table)


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Reject a wrong configuration before anything is written."""
    if config.table not in (*TABLES, runner.ALL):
        raise unknown_name("table", config.table, (*TABLES, runner.ALL))
    check_evaluation(config, dataset)
    unknown = sorted(set(config.trainings) - set(CLASSIFIERS))
    if unknown:
        raise unknown_name("target model in `trainings`", unknown[0], CLASSIFIERS)
    for name, found in from_config.select(config, *_OVERWRITTEN).items():
        if found != _OVERWRITTEN[name]:
            raise ValueError(
                f"`{name}` is set by the tables and must stay {_OVERWRITTEN[name]!r}, "
                f"got {found!r}; remove the override."
            )
    artifacts = GeneratorArtifacts(Run(config, pathlib.Path(), dataset))
    tables = runner.tables_of(config, TABLES, config.table)
    rows = [row for table in tables for row in table.rows]
    entries = [entry for row in rows for entry in row.entries.values()]
    needed = [(model.section, model) for e in entries for model in e.models]
    trained = [(e.attack, e.through) for e in entries if e.attack in GENERATORS]
    needed += [(GENERATORS[name], models[0]) for name, models in trained if models]
    needed += [("generators", e.on) for e in entries if e.metric.startswith("success_")]
    for section, model in dict.fromkeys(needed):  # each is checked once
        _METHODS[section].check(artifacts.config_of(model, section), dataset)
        if section == "fitted":  # to fewer images
            fitted = artifacts.generator_run("fitted", (model,))
            from_config.training_plan(fitted.config.training, fitted.dataset)
    for name in {e.attack for e in entries if e.attack} - set(GENERATORS):
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
