"""One AdvGAN for each class against one AI-GAN for all, on the same target model."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import Dataset
from advgan_jax.evaluation import Evaluation, pool
from advgan_jax.reporting import heatmap, replacing, save_figure, write_json
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import advgan, aigan, target_model
from advgan_jax.runs.run import Run, attack_row
from advgan_jax.runs.training_time import training_seconds
from advgan_jax.runs.workdir import differences
from advgan_jax.types import Attack, LogitsFn

_SAME = ("dataset", "target_model", "target_training", "seed", "epsilon")
_PACE = ("epochs_per_checkpoint", "steps_per_call")


class Trained(NamedTuple):
    """A generator and where it is from.

    Attributes:
      attack: the generator.
      workdir: of its training.
    """

    attack: Attack
    workdir: pathlib.Path


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    classes = tuple(config.target_classes)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(
            "`target_classes` must name at least one class, and each once, got "
            f"{classes}."
        )
    advgan.check(_advgan_config(config, classes[0]), dataset)
    for wanted in classes:
        from_config.advgan_objective(
            _advgan_config(config, wanted), dataset.num_classes
        )
        if config.advgan_workdirs is not None:
            _check_given(config, config.advgan_workdirs.format(wanted), wanted)
    aigan.check(config.aigan, dataset)
    if config.aigan_workdir is not None:
        _check_given(config, config.aigan_workdir, None)


def _advgan_config(config: ConfigDict, wanted: int) -> ConfigDict:
    own = config.advgan.copy_and_resolve_references()
    own.target_class = wanted
    return own


def _check_given(config: ConfigDict, workdir: str, wanted: int | None) -> None:
    """Refuses the workdir of an unfinished run, or of one that is not comparable."""
    if not pathlib.Path(workdir, "results.json").exists():
        raise ValueError(
            f"{workdir} holds no finished run (no results.json); finish it, or leave "
            "the folder out to train the generator here."
        )
    with Checkpoints(pathlib.Path(workdir, "checkpoints")) as checkpoints:
        saved = checkpoints.describe()["config"]
    kind = "aigan" if wanted is None else "advgan"
    ours = {"method": kind, "target_class": wanted}
    ours |= {name: from_config.plain(config)[name] for name in _SAME}
    theirs = {name: saved.get(name) for name in ours}
    for values in (ours, theirs):
        section = values["target_training"]
        values["target_training"] = {k: v for k, v in section.items() if k not in _PACE}
    differ = differences(theirs, ours)
    if differ:
        raise ValueError(
            f"{workdir} holds a generator that cannot be compared "
            f"({'; '.join(differ)}); leave it out to train one here."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Trains what is missing, measures all, and compares."""
    classes = tuple(run.config.target_classes)
    logits_fn = target_model.trained_logits_fn(run)
    groups = {
        "advgan": [(_advgan(run, logits_fn, wanted), (wanted,)) for wanted in classes],
        "aigan": [(_aigan(run, logits_fn), classes)],
    }
    measured, summary = {}, {}
    for name, group in groups.items():
        found = {}
        for trained, aims in group:
            # Another folder or other classes are another measurement.
            own = from_config.fingerprint([str(trained.workdir), aims])
            found |= aigan.evaluated(
                run, logits_fn, trained.attack, aims, f"{name}-{own}"
            )
        seconds = [training_seconds(trained.workdir) for trained, _ in group]
        measured[name], summary[name] = found, _summary(found, seconds)
    _write(run, summary)
    return [row for name in measured for row in _rows(run, name, measured[name])]


def _advgan(run: Run, logits_fn: LogitsFn, wanted: int) -> Trained:
    given = run.config.advgan_workdirs
    if given is not None:
        workdir = pathlib.Path(given.format(wanted))
        return Trained(from_config.load_generator(workdir), workdir)
    workdir = run.workdir / "generators" / f"advgan-{wanted}"
    own = run._replace(config=_advgan_config(run.config, wanted), workdir=workdir)
    return Trained(advgan.trained_generator(own, logits_fn), workdir)


def _aigan(run: Run, logits_fn: LogitsFn) -> Trained:
    given = run.config.aigan_workdir
    if given is not None:
        return Trained(from_config.load_generator(given), pathlib.Path(given))
    workdir = run.workdir / "generators" / "aigan"
    own = run._replace(config=run.config.aigan, workdir=workdir)
    return Trained(aigan.trained_generators(own, logits_fn)["stage_two"], workdir)


def _rows(
    run: Run, name: str, by_class: Mapping[int, Evaluation]
) -> list[dict[str, Any]]:
    """A row for each class, and one of all if there are several."""
    evaluations = list(by_class.values())
    if len(evaluations) > 1:
        evaluations.append(pool(evaluations))
    return [
        attack_row(
            run,
            evaluation,
            attack=name,
            threat_model="semi-white-box",
            epsilon=run.config.epsilon,
            norm="linf",
        )
        for evaluation in evaluations
    ]


def _summary(
    by_class: Mapping[int, Evaluation], seconds: list[float | None]
) -> dict[str, Any]:
    """What one method achieves, and what it costs."""
    everything = pool(list(by_class.values()))
    won = everything.counted() & everything.succeeded
    rates = [evaluation.success().rate for evaluation in by_class.values()]
    return {
        "success_by_target": rates,
        "success_mean": float(np.nanmean(rates)),
        "success_least": float(np.nanmin(rates)),
        "l2_mean": float(everything.l2[won].mean()) if won.any() else None,
        "num_generators": len(seconds),
        "training_seconds": seconds,
        "training_seconds_total": None if None in seconds else sum(seconds),
        "generation_seconds_per_1000": 1000
        * everything.seconds
        / everything.num_images,
    }


def _write(run: Run, summary: Mapping[str, Mapping[str, Any]]) -> None:
    """The comparison as numbers, as a table and as a figure."""
    config, workdir = run.config, run.workdir
    write_json(workdir / "generators.json", summary)
    with replacing(workdir / "generators.md") as partial:
        partial.write_text(_table(summary, config.target_classes), encoding="utf8")
    figure = heatmap(
        np.array([values["success_by_target"] for values in summary.values()]),
        ["AdvGAN, one each", "AI-GAN, one for all"],
        [str(wanted) for wanted in config.target_classes],
        f"success, {config.dataset}, model {config.target_model}",
        column_label="target class",
    )
    save_figure(figure, workdir / "figures" / "generators.png")


def _table(summary: Mapping[str, Mapping[str, Any]], classes: tuple[int, ...]) -> str:
    """The comparison in Markdown."""
    names = {"advgan": "AdvGAN, one for each class", "aigan": "AI-GAN"}
    lines = [
        "| | generators | training, all | 1,000 images | mean L2 | mean success | "
        + " | ".join(map(str, classes))
        + " |",
        "|---|" + "---:|" * (5 + len(classes)),
    ]
    for name, values in summary.items():
        total, size = values["training_seconds_total"], values["l2_mean"]
        cells = [
            names[name],
            str(values["num_generators"]),
            "not timed" if total is None else f"{total:,.0f} s",
            f"{1000 * values['generation_seconds_per_1000']:,.0f} ms",
            "-" if size is None else f"{size:.2f}",
            *(
                f"{rate:.2%}"
                for rate in (values["success_mean"], *values["success_by_target"])
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
