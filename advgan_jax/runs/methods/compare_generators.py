"""Compare one AdvGAN for each class with one AI-GAN for all, on one target model."""

import pathlib
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checkpointing import differences
from advgan_jax.data import Dataset
from advgan_jax.evaluation import pool, summarize_classes
from advgan_jax.generators import describe_generator, load_generator
from advgan_jax.reporting import heatmap, write_generators, write_json
from advgan_jax.reporting.training_time import training_seconds
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import advgan, aigan, target_model
from advgan_jax.runs.run import Run
from advgan_jax.types import Attack, LogitsFn

# Settings that comparable generators share.
_SHARED = ("kind", "data", "target_model", "target_class", "epsilon", "seed")
_TITLES = {"advgan": "AdvGAN, one for each class", "aigan": "AI-GAN"}


def _generators(config: ConfigDict) -> dict[str, list[tuple[Any, ...]]]:
    """Return name, classes, configuration and given folder of each generator."""
    classes, folders, advgans = tuple(config.target_classes), config.advgan_workdirs, []
    for wanted in classes:
        own = config.advgan.copy_and_resolve_references()
        own.target_class = wanted
        workdir = folders and folders.format(wanted)
        advgans.append((f"advgan-{wanted}", (wanted,), own, workdir))
    one = ("aigan", classes, config.aigan, config.aigan_workdir)
    return {"advgan": advgans, "aigan": [one]}


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    groups = _generators(config)
    for method, name in ((advgan, "advgan"), (aigan, "aigan")):
        method.check(groups[name][0][2], dataset)
    for *_, own, workdir in chain(*groups.values()):
        if own.method == "advgan":
            gans.advgan_objective(own, dataset.num_classes)
        if workdir is not None:
            _check_given(workdir, own, dataset)


def _check_given(workdir: str, own: ConfigDict, dataset: Dataset) -> None:
    """Raise unless a workdir holds a finished run with a comparable generator."""
    if not pathlib.Path(workdir, "results.json").exists():
        raise ValueError(
            f"{workdir} holds no finished run (no results.json); finish it, or omit "
            "the folder to train the generator here."
        )
    described = describe_generator(workdir), gans.describe(own, dataset)
    theirs, ours = (
        {name: values.get(name) for name in _SHARED} for values in described
    )
    differ = differences(theirs, ours)
    if differ:
        raise ValueError(
            f"{workdir} holds a generator that cannot be compared "
            f"({'; '.join(differ)}); omit it to train one here."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Return for each method a row for each class and, for several, one of all."""
    logits_fn, groups = target_model.trained_logits_fn(run), _generators(run.config)
    trained = {
        name: _trained(run, logits_fn, name, own, given)
        for name, _, own, given in chain(*groups.values())
    }
    rows, summary = [], {}
    for method, group in groups.items():
        found, seconds = {}, []
        for name, aims, *_ in group:
            attack, description, folder = trained[name]
            made_by = {"generator": description}
            found |= aigan.evaluate_classes(run, logits_fn, attack, aims, made_by)
            seconds.append(training_seconds(folder))
        everything = pool(list(found.values()))
        spent: Any = everything.seconds
        summary[method] = summarize_classes(found) | {
            "num_generators": len(seconds),
            "training_seconds": seconds,
            "training_seconds_total": None if None in seconds else sum(seconds),
            "generation_seconds_per_1000": 1000 * spent / everything.num_images,
        }
        rows += aigan.class_rows(run, method, found)
    _write(run, summary)
    return rows


def _trained(
    run: Run, logits_fn: LogitsFn, name: str, config: ConfigDict, given: str | None
) -> tuple[Attack, dict[str, Any], pathlib.Path]:
    """Load or train a generator; return it, its description and its folder."""
    if given is not None:
        return load_generator(given), describe_generator(given), pathlib.Path(given)
    description = gans.describe(config, run.dataset)
    workdir = run.store.folder(f"generators/{name}", description)
    own = run._replace(config=config, workdir=workdir)
    if config.method == "aigan":
        attack = aigan.trained_generators(own, logits_fn)["stage_two"]
    else:
        attack = advgan.trained_generator(own, logits_fn)
    return attack, description, workdir


def _write(run: Run, summary: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the comparison as numbers, as a table and as a figure."""
    config, workdir = run.config, run.workdir
    classes = [str(wanted) for wanted in config.target_classes]
    write_json(workdir / "generators.json", summary)
    write_generators(workdir / "generators.md", summary, _TITLES, classes)
    figure = heatmap(
        np.array([values["success_by_target"] for values in summary.values()]),
        [_TITLES[name] for name in summary],
        classes,
        f"success, {config.dataset}, {config.target_model}",
        column_label="target class",
    )
    run.save_figure("generators", figure)
