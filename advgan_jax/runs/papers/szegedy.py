"""The studies of Szegedy et al., "Intriguing properties of neural networks".

`distortion` is Table 1, `cross-model` Table 2, `cross-training-set` Tables 3 and 4,
`units` Figures 1 to 4. `spectral` is like Table 5, which the paper prints for AlexNet
alone, and `layerwise` is the last paragraph of Sec. 4.2. The printed numbers are those
of MNIST, by the paper's names of its models.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199).
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from advgan_jax.data import Dataset
from advgan_jax.reporting import bar_chart, comparison_grid, heatmap, matrices
from advgan_jax.runs import runner
from advgan_jax.runs.papers import _szegedy_check
from advgan_jax.runs.papers.rows import (
    Entry,
    Record,
    Row,
    Table,
    TargetModel,
    by_place,
)
from advgan_jax.runs.papers.szegedy_models import (
    SzegedyArtifacts,
    parse,
    printed_title,
)
from advgan_jax.runs.run import Run

_FULLY_CONNECTED = ("FC10(1e-4)", "FC10(1e-2)", "FC10(1)", "FC100-100-10")
_MODELS = (*_FULLY_CONNECTED, "FC200-200-10", "AE400-10")
_HALVES = ("FC100-100-10", "FC123-456-10", "FC100-100-10'")
DISTORTION = by_place(
    {
        "FC10(1e-4)": (0.067, 0.074, 0.062),
        "FC10(1e-2)": (0.10, 0.094, 0.1),
        "FC10(1)": (0.212, 0.20, 0.14),
        "FC100-100-10": (0.0, 0.0164, 0.058),
        "FC200-200-10": (0.0, 0.0154, 0.065),
        "AE400-10": (0.0057, 0.019, 0.086),
    },
    ("train error", "test error", "av. distortion"),
)
# Errors in percent of the models in the columns, on images made for the row's model.
CROSS_MODEL = by_place(
    {
        "FC10(1e-4)": (100, 11.7, 22.7, 2, 3.9, 2.7),
        "FC10(1e-2)": (87.1, 100, 35.2, 35.9, 27.3, 9.8),
        "FC10(1)": (71.9, 76.2, 100, 48.1, 47, 34.4),
        "FC100-100-10": (28.9, 13.7, 21.1, 100, 6.6, 2),
        "FC200-200-10": (38.2, 14, 23.8, 20.3, 100, 2.7),
        "AE400-10": (23.4, 16, 24.8, 9.4, 6.6, 100),
        "Gaussian 0.1": (5.0, 10.1, 18.3, 0, 0, 0.8),
        "Gaussian 0.3": (15.6, 11.3, 22.7, 5, 4.3, 3.1),
    },
    _MODELS,
    percent=True,
)
CROSS_TRAINING_SET = by_place(
    {
        "FC100-100-10": (100, 26.2, 5.9),
        "FC123-456-10": (6.25, 100, 5.1),
        "FC100-100-10'": (8.2, 8.2, 100),
        "Gaussian 0.06": (2.2, 2.6, 2.4),
        "FC100-100-10 to 0.1": (100, 98, 43),
        "FC123-456-10 to 0.1": (96, 100, 22),
        "FC100-100-10' to 0.1": (27, 50, 100),
        "Gaussian 0.1": (2.6, 2.8, 2.7),
    },
    _HALVES,
    percent=True,
)
HALVES = by_place(
    {
        "FC100-100-10": (0.0, 0.024, 0.02, 0.062),
        "FC123-456-10": (0.0, 0.025, 0.021, 0.059),
        "FC100-100-10'": (0.023, 0.0, 0.021, 0.058),
    },
    ("error P1", "error P2", "test error", "av. distortion"),
)
# The paper prints upper bounds.
LAYERWISE = by_place(
    {"weight decay": (0.016,), "dropout": (0.013,), "all layers": (0.012,)},
    ["test error"],
)
_SHOWN = 10  # images of each model in the picture


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Reject a wrong configuration before anything is written."""
    runner.check_choice("study", config.study, STUDIES)
    _szegedy_check.check(config, dataset)


def run(run: Run) -> list[dict[str, Any]]:
    """Run the configured study, or all of them; see `runner.run`.

    A model that is attacked has no row without an attack.
    """
    rows = runner.run(SzegedyArtifacts(run), STUDIES, run.config.study)
    found = [row for row in rows if row["attack"]]
    attacked = {row["target_model"] for row in found}
    return found + [row for row in rows if row["target_model"] not in attacked]


def distortion(config: ConfigDict) -> list[Table]:
    """How little distortion makes `config.models` wrong on every training image."""
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
        rows.append(Row({"model": printed_title(config, model)}, entries))

    def draw(artifacts: SzegedyArtifacts, records: Sequence[Record]) -> Figure:
        """Draw clean and adversarial images."""
        images, lines = artifacts.images("train"), {}
        for name in config.models[: len(records)]:
            found: Any = artifacts.attacked(parse(name), "train")
            shown = (found.examples[:_SHOWN], found.adversarial_predictions[:_SHOWN])
            lines[printed_title(config, parse(name))] = shown
        # Above the clean images are their classes: the models may differ about them.
        labels = images.labels[:_SHOWN]
        return comparison_grid(images.images[:_SHOWN], labels, labels, lines)

    title = "Distortion that changes the class"
    return [_table(config, "distortion", title, rows, DISTORTION, draw)]


def cross_model(config: ConfigDict) -> list[Table]:
    """Images made for each of `config.models`, shown to all of them."""
    models = [parse(name) for name in config.models]
    rows = [_shown(config, models, "train", source) for source in models]
    rows += [_shown(config, models, "train", size=size) for size in config.noise]
    rows.append(_shown(config, models, "train"))
    title = "Errors on images made for other models"
    return [_matrix(config, "cross-model", title, models, rows, CROSS_MODEL)]


def cross_training_set(config: ConfigDict) -> list[Table]:
    """Models that have seen disjoint halves of the training set, on test images.

    Perturbations are shown as they are, and rescaled to `config.amplified_to`.
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
        halves.append(Row({"model": printed_title(config, model)}, entries))
    typical = Entry("typical_noise", models[0], config.attack, tuple(models))
    rows = [
        *(_shown(config, models, "test", source) for source in models),
        Row({"made for": "Gaussian"}, {"lines": typical}),
        *(_shown(config, models, "test", source, large) for source in models),
        _shown(config, models, "test", size=large),
        _shown(config, models, "test"),
    ]
    name, title = "cross-training-set", "Errors of models trained on disjoint halves"
    return [
        _table(config, "halves", "Models trained on disjoint halves", halves, HALVES),
        _matrix(config, name, title, models, rows, CROSS_TRAINING_SET),
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
        attack, through, name = config.attack, (source,), printed_title(config, source)
        name += f" to {size:g}" if size else ""
    entries = {
        printed_title(config, model): Entry(
            "shown_error", model, attack, through, images, size
        )
        for model in models
    }
    if source is None or size is not None:
        return Row({"made for": name}, entries, {"av. distortion": size or 0.0})
    entries["av. distortion"] = Entry("distortion", source, attack, through, images)
    return Row({"made for": name}, entries)


def _matrix(
    config: ConfigDict,
    name: str,
    title: str,
    models: Sequence[TargetModel],
    rows: Sequence[Row],
    printed: dict,
) -> Table:
    columns = [printed_title(config, model) for model in models]

    def draw(_: SzegedyArtifacts, records: Sequence[Record]) -> Figure:
        """Draw the matrix of errors."""
        ours, published = matrices(records, columns)
        names = [record["made for"] for record in records]
        heading = f"errors, {config.dataset}, {config.attack}"
        labels = {"row_label": "made for", "column_label": "shown to"}
        return heatmap(ours, names, columns, heading, published=published, **labels)

    return _table(config, name, title, rows, printed, draw)


def spectral(config: ConfigDict) -> list[Table]:
    """How far each layer may stretch a perturbation, and how far it does."""
    rows = []
    for model in map(parse, config.spectral_models):
        lines = Entry("expansions", model, config.attack, (model,))
        rows.append(Row({"model": printed_title(config, model)}, {"lines": lines}))
    return [_table(config, "spectral", "Bounds and expansions of layers", rows, {})]


def units(config: ConfigDict) -> list[Table]:
    """Single units against random directions, in each hidden layer."""
    rows = []
    for model in map(parse, config.units.models):
        lines = Entry("directions", model)
        rows.append(Row({"model": printed_title(config, model)}, {"lines": lines}))
    return [_table(config, "units", "Units against random directions", rows, {})]


def layerwise(config: ConfigDict) -> list[Table]:
    """Training with adversarial examples of no, one or every layer."""
    base, rows = config.layerwise.model, []
    for variant in config.layerwise.variants:
        model = TargetModel(base, variant=variant)
        entries = {
            "train error": Entry("error", model, images="train"),
            "test error": Entry("error", model),
        }
        rows.append(Row({"adversarial examples of": variant}, entries))

    def draw(_: SzegedyArtifacts, records: Sequence[Record]) -> Figure:
        """Draw a bar for each training."""
        printed = LAYERWISE if config.dataset == "mnist" else {}
        return bar_chart(
            {r["adversarial examples of"]: r["test error"] for r in records},
            label="test error",
            title=f"{config.networks[base].title}, {config.dataset}",
            references={f"paper, {row}": e for (row, _), e in printed.items()},
        )

    title = "Layer-wise training"
    return [_table(config, "layerwise", title, rows, LAYERWISE, draw)]


def _table(
    config: ConfigDict,
    name: str,
    title: str,
    rows: Sequence[Row],
    printed: dict,
    figure: Any = None,
) -> Table:
    printed = printed if config.dataset == "mnist" else {}
    return Table(name, f"{title}, {config.dataset}", rows, printed, figure)


STUDIES = {
    "distortion": distortion,
    "cross-model": cross_model,
    "cross-training-set": cross_training_set,
    "spectral": spectral,
    "units": units,
    "layerwise": layerwise,
}
