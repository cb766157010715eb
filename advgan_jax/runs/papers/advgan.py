"""Tables 1 to 4 of AdvGAN's paper, on MNIST at epsilon 0.3: rows and printed numbers.

No second source has confirmed the numbers of Tables 3 and 4. The paper has neither PGD
nor AdvGAN on the defended model itself; we measure both, because a defence that PGD
defeats is none.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Tables 1 to 4;
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196), for AI-GAN's time.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from advgan_jax.reporting import PAPER, heatmap, matrices, time_chart
from advgan_jax.runs.papers.rows import (
    Entry,
    Record,
    Row,
    Table,
    TargetModel,
    by_place,
)

EPSILON = 0.3
MODELS = ("A", "B", "C")  # two of Tramer's models, and Carlini & Wagner's

# Table 1, for 1,000 images. Its 'Opt.' is Carlini & Wagner's attack.
SECONDS: dict[str, tuple[Any, ...]] = {
    "FGSM": (0.06,),
    "Opt. (Carlini & Wagner)": ("> 10800",),
    "AdvGAN": ("< 0.01",),
    "AI-GAN": ("< 0.01",),
}
SUCCESS_COLUMNS = (
    "accuracy",
    "semi-white-box",
    "black-box dynamic",
    "black-box static",
)
SUCCESS = {
    "A": (0.9897, 0.979, 0.934, 0.307),
    "B": (0.9917, 0.971, 0.901, 0.6663),
    "C": (0.9909, 0.983, 0.9402, 0.873),
}
# Tables 3 and 4, by model and defence.
DEFENDED_COLUMNS = ("FGSM", "Opt.", "AdvGAN")
DEFENCES = {"adv": "Adv.", "ensemble": "Ens.", "iterative": "Iter. Adv."}
SEMI_WHITE_BOX = {
    "A Adv.": (0.043, 0.046, 0.080),
    "A Ens.": (0.016, 0.042, 0.063),
    "A Iter. Adv.": (0.044, 0.0296, 0.056),
    "B Adv.": (0.060, 0.045, 0.072),
    "B Ens.": (0.027, 0.0318, 0.058),
    "B Iter. Adv.": (0.090, 0.030, 0.066),
    "C Adv.": (0.027, 0.0295, 0.187),
    "C Ens.": (0.016, 0.022, 0.135),
    "C Iter. Adv.": (0.016, 0.019, 0.126),
}
TRANSFER_MODEL = "A"  # on which FGSM and Opt. of Table 4 are made
BLACK_BOX = {
    "B Adv.": (0.031, 0.035, 0.115),
    "B Ens.": (0.025, 0.034, 0.103),
    "B Iter. Adv.": (0.024, 0.025, 0.122),
}


def is_comparable(config: ConfigDict) -> bool:
    """Return whether the papers' data set and bound are configured."""
    return config.dataset == "mnist" and config.epsilon == EPSILON


def attack_table(
    config: ConfigDict, name: str, rows: Sequence[Row], printed: dict[Any, Any]
) -> list[Table]:
    """Build one table with a heatmap, or a chart of times, beside it."""
    title = f"Table {name}" if name.isdigit() else name
    printed = printed if is_comparable(config) else {}

    def draw(_: Any, records: Sequence[Record]) -> Figure:
        """Draw the figure of the table."""
        return _figure(title, rows, records)

    return [Table(f"table-{name}", title, rows, printed, draw)]


def _figure(title: str, rows: Sequence[Row], records: Sequence[Record]) -> Figure:
    names = [row.name for row in rows[: len(records)]]
    columns = list(rows[0].entries)
    if columns == ["seconds"]:
        shown = dict(zip(names, records, strict=True))
        printed = {n: r.get("seconds" + PAPER) for n, r in shown.items()}
        return time_chart(
            {n: r["seconds"] for n, r in shown.items()},
            label="seconds for 1,000 images",
            title=title,
            published={n: number for n, number in printed.items() if number},
        )
    ours, published = matrices(records, columns)
    return heatmap(ours, names, columns, title, published=published)


def speed(config: ConfigDict) -> list[Table]:
    """Table 1: seconds for 1,000 images, on `config.speed_model`."""
    model = TargetModel(config.speed_model)
    other = model._replace(seed=1)
    rows = [
        Row(
            {"attack": title},
            {"seconds": Entry("seconds", model, attack, (known,))},
            {"targeted": targeted, "black-box": black_box},
        )
        for title, attack, known, targeted, black_box in (
            ("FGSM", "fgsm", model, "yes", ""),
            ("Opt. (Carlini & Wagner)", "opt", model, "yes", ""),
            ("Opt. (L-BFGS)", "lbfgs", model, "yes", ""),
            ("Transfer", "transfer", other, "of an ensemble", "yes"),
            ("AdvGAN", "advgan", model, "yes", "yes"),
            ("AI-GAN", "aigan", model, "yes", ""),
        )
    ]
    printed = by_place(SECONDS, ["seconds"]) if model.name in MODELS else {}
    return attack_table(config, "1", rows, printed)


def success(config: ConfigDict) -> list[Table]:
    """Table 2: accuracy of the undefended `config.models`, and AdvGAN's success."""
    rows = []
    for name in config.models:
        model, unseen = TargetModel(name), TargetModel(name, is_black_box=True)
        entries = (
            Entry("clean_accuracy", model),
            Entry("success", model, "advgan", (model,)),
            Entry("success", unseen, "dynamic", (unseen,)),
            Entry("success", unseen, "static", (unseen,)),
        )
        rows.append(
            Row({"model": name}, dict(zip(SUCCESS_COLUMNS, entries, strict=True)))
        )
    return attack_table(config, "2", rows, by_place(SUCCESS, SUCCESS_COLUMNS))


def semi_white_box(config: ConfigDict) -> list[Table]:
    """Table 3: success on defended models of attacks that know the undefended one.

    The two models share a seed: they start from the same weights and see the images in
    the same order. Attacks may transfer more easily than between independent models.
    'Opt.' is Carlini & Wagner's smallest L2 perturbation at confidence 0, projected to
    epsilon.
    """
    rows = []
    for name in config.models:
        known = (TargetModel(name),)
        for defence in DEFENCES:
            row = _defended(config, TargetModel(name, defence))
            model = row.entries["accuracy"].on
            attacks = ("fgsm", "opt", "advgan")
            for column, attack in zip(DEFENDED_COLUMNS, attacks, strict=True):
                row.entries[column] = Entry("success", model, attack, known)
            adaptive = Entry("success", model, "advgan", (model,))
            row.entries["AdvGAN, adaptive"] = adaptive
            rows.append(row)
    printed = by_place(SEMI_WHITE_BOX, DEFENDED_COLUMNS)
    return attack_table(config, "3", rows, printed)


def black_box(config: ConfigDict) -> list[Table]:
    """Table 4: success on a defended model of attacks that do not know it.

    FGSM and Opt. are made on `config.transfer_model`, AdvGAN on the answers of the
    undefended `config.blackbox_model`; the last column's AdvGAN on the answers of the
    defended model.
    """
    name = config.blackbox_model
    other = (TargetModel(config.transfer_model),)
    undefended = (TargetModel(name, is_black_box=True),)
    rows = []
    for defence in DEFENCES:
        model = TargetModel(name, defence, is_black_box=True)
        row = _defended(config, model)
        row.entries["FGSM"] = Entry("success", model, "fgsm", other)
        row.entries["Opt."] = Entry("success", model, "opt", other)
        row.entries["AdvGAN"] = Entry("success", model, "dynamic", undefended)
        adaptive = Entry("success", model, "dynamic", (model,))
        row.entries["AdvGAN, adaptive"] = adaptive
        rows.append(row)
    printed = by_place(BLACK_BOX, DEFENDED_COLUMNS)
    if config.transfer_model != TRANSFER_MODEL:
        printed = {p: number for p, number in printed.items() if p[1] == "AdvGAN"}
    return attack_table(config, "4", rows, printed)


def _defended(config: ConfigDict, model: TargetModel) -> Row:
    """Start a row with the model's accuracy, and PGD on the model itself."""
    pgd = Entry("success", model, "pgd", (model,))
    return Row(
        {"model": model.name, "defence": DEFENCES[model.defence]},
        {
            "accuracy": Entry("clean_accuracy", model),
            f"{pgd_title(config, 'pgd')}, adaptive": pgd,
        },
    )


def pgd_title(config: ConfigDict, name: str) -> str:
    """Return the title of a PGD of `config.attacks`, such as 'PGD-100, 20 restarts'."""
    section = config.attacks[name]
    restarts = section.num_restarts
    return f"PGD-{section.num_steps}" + f", {restarts} restarts" * (restarts > 1)
