"""The studies of Szegedy et al., "Intriguing properties of neural networks".

`distortion` is Table 1, `cross-model` Table 2, `cross-training-set` Tables 3 and 4,
`units` Figures 1 to 4. `spectral` is like Table 5, which the paper has for AlexNet
alone, and `layerwise` is the last paragraph of Sec. 4.2. The published numbers are
those of MNIST, by the paper's names of its models.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.reporting import comparison_grid, error_curves, heatmap, matrices
from advgan_jax.reporting.style import Figure
from advgan_jax.runs import runner
from advgan_jax.runs.papers import layerwise_models, szegedy_check
from advgan_jax.runs.papers.rows import Entry, Row, Table, TargetModel, published
from advgan_jax.runs.papers.szegedy_models import (
    SzegedyArtifacts,
    parse,
    published_title,
)
from advgan_jax.runs.run import Run

Records = Sequence[Mapping[str, Any]]
_SHOWN = 10  # images of each model in the figure


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Reject a wrong configuration before anything is written."""
    if config.study not in (*STUDIES, runner.ALL):
        raise unknown_name("study", config.study, (*STUDIES, runner.ALL))
    szegedy_check.check_studies(config, dataset)


def run(run: Run) -> list[dict[str, Any]]:
    """Run the configured study, or all of them; see `runner.run`.

    A model that is attacked has no row without an attack.
    """
    rows = runner.run(SzegedyArtifacts(run), STUDIES, run.config.study)
    found = [row for row in rows if row["attack"]]
    attacked = {row["target_model"] for row in found}
    return found + [row for row in rows if row["target_model"] not in attacked]


def distortion(config: ConfigDict) -> list[Table]:
    """Build the table of distortions that make `config.models` misclassify."""
    rows = []
    for model in map(parse, config.models):
        attack = (model, config.attack, (model,), "train")
        entries = {
            "train error": Entry("error", model, images="train"),
            "test error": Entry("error", model),
            "images": Entry("num_images", *attack),
            "accuracy under attack": Entry("accuracy_under_attack", *attack),
            "av. distortion": Entry("distortion", *attack),
            "av. distortion, all images": Entry("distortion_of_all", *attack),
        }
        rows.append(_row(config, model, entries))

    def _draw(artifacts: SzegedyArtifacts, records: Records) -> Figure:
        images, lines = artifacts.images("train"), {}
        for name in config.models[: len(records)]:
            found: Any = artifacts.attacked(parse(name), "train")
            shown = (found.examples[:_SHOWN], found.adversarial_predictions[:_SHOWN])
            lines[published_title(config, parse(name))] = shown
        # Above the clean images are their classes: the models may differ about them.
        labels = images.labels[:_SHOWN]
        return comparison_grid(images.images[:_SHOWN], labels, labels, lines)

    title = "Distortion that changes the class"
    return [_table(config, "distortion", title, rows, _draw)]


def cross_model(config: ConfigDict) -> list[Table]:
    """Build the table of images made for one of `config.models`, shown to all."""
    models = [parse(name) for name in config.models]
    rows = [_shown(config, models, "train", source) for source in models]
    rows += [_shown(config, models, "train", size=size) for size in config.noise]
    rows.append(_shown(config, models, "train"))
    title = "Errors on images made for other models"
    return [_matrix(config, "cross-model", title, rows)]


def cross_training_set(config: ConfigDict) -> list[Table]:
    """Build the tables of models that are trained on disjoint halves of the images.

    Perturbations of test images are shown as they are, and rescaled to
    `config.amplified_to`.
    """
    models, large = [parse(name) for name in config.half_models], config.amplified_to
    halves = []
    for model in models:
        entries = {
            "error P1": Entry("error", model, images="half 1"),
            "error P2": Entry("error", model, images="half 2"),
            "test error": Entry("error", model),
            "av. distortion": Entry("distortion", model, config.attack, (model,)),
        }
        halves.append(_row(config, model, entries))
    typical = Entry("typical_noise", models[0], config.attack, tuple(models))
    rows = [
        *(_shown(config, models, "test", source) for source in models),
        Row({"made for": "Gaussian"}, {"lines": typical}),
        *(_shown(config, models, "test", source, large) for source in models),
        _shown(config, models, "test", size=large),
        _shown(config, models, "test"),
    ]
    title = "Errors of models trained on disjoint halves"
    return [
        _table(config, "halves", "Models trained on disjoint halves", halves),
        _matrix(config, "cross-training-set", title, rows),
    ]


def _shown(
    config: ConfigDict,
    models: Sequence[TargetModel],
    images: str,
    source: TargetModel | None = None,
    size: float | None = None,
) -> Row:
    """Return a row of errors: on images made for a model, noisy or clean ones."""
    attack, through, name = None, (), f"Gaussian {size:g}" if size else "clean"
    if source is not None:
        attack, through = config.attack, (source,)
        name = published_title(config, source) + (f" to {size:g}" if size else "")
    shown = (attack, through, images, size)
    entries = {
        published_title(config, model): Entry("shown_error", model, *shown)
        for model in models
    }
    if source is None or size is not None:
        return Row({"made for": name}, entries, {"av. distortion": size or 0.0})
    entries["av. distortion"] = Entry("distortion", source, attack, through, images)
    return Row({"made for": name}, entries)


def _matrix(config: ConfigDict, name: str, title: str, rows: Sequence[Row]) -> Table:
    columns = [column for column in rows[0].entries if column != "av. distortion"]

    def _draw(_: SzegedyArtifacts, records: Records) -> Figure:
        ours, theirs = matrices(records, columns)
        names = [record["made for"] for record in records]
        heading = f"errors, {config.dataset}, {config.attack}"
        labels = {"row_label": "made for", "column_label": "shown to"}
        return heatmap(ours, names, columns, heading, published=theirs, **labels)

    return _table(config, name, title, rows, _draw)


def spectral(config: ConfigDict) -> list[Table]:
    """Build the table of bounds on the expansion of each layer, and measured ones."""
    rows = [
        _row(config, model, {"lines": Entry("expansions", model, *attack)})
        for model in map(parse, config.spectral_models)
        for attack in [(config.attack, (model,))]
    ]
    return [_table(config, "spectral", "Bounds and expansions of layers", rows)]


def units(config: ConfigDict) -> list[Table]:
    """Build the table of single units against random directions in hidden layers."""
    rows = [
        _row(config, model, {"lines": Entry("directions", model)})
        for model in map(parse, config.units.models)
    ]
    return [_table(config, "units", "Units against random directions", rows)]


def layerwise(config: ConfigDict) -> list[Table]:
    """Build the table of training with adversarial examples of layers.

    Paired tests compare each variant with the baselines, and with examples of images.
    """
    section, images = config.layerwise, layerwise_models.shown_images(config)
    every = {v: TargetModel(section.model, variant=v) for v in section.variants}
    rows = []
    for variant, model in every.items():
        others = (every.get(name) for name in ("weight decay", "dropout", "input"))
        compared = tuple(o for o in others if o is not None and o != model)
        entry = Entry("repeated", model, None, compared, images)
        rows.append(Row({"adversarial examples of": variant}, {"lines": entry}))

    def _draw(artifacts: SzegedyArtifacts, records: Records) -> Figure:
        known = [record["adversarial examples of"] for record in records]
        curves = partial(layerwise_models.curves, artifacts)
        printed = {row: float(e) for (row, _), e in table.published.items()}
        if images == "validation":
            printed = {}
        title = f"{config.networks[section.model].title}, {config.dataset}"
        return error_curves(
            {variant: curves(every[variant]) for variant in known},
            references={f"paper, {row}": error for row, error in printed.items()},
            shown=images,
            title=f"{title}, seed {config.seed}",
        )

    table = _table(config, "layerwise", "Layer-wise training", rows, _draw)
    return [table]


def _row(config: ConfigDict, model: TargetModel, entries: dict[str, Entry]) -> Row:
    return Row({"model": published_title(config, model)}, entries)


def _table(
    config: ConfigDict, name: str, title: str, rows: Sequence[Row], figure: Any = None
) -> Table:
    numbers = published("szegedy", name) if config.dataset == "mnist" else {}
    return Table(name, f"{title}, {config.dataset}", rows, numbers, figure)


STUDIES = {
    "distortion": distortion,
    "cross-model": cross_model,
    "cross-training-set": cross_training_set,
    "spectral": spectral,
    "units": units,
    "layerwise": layerwise,
}
