"""Tables 1 to 4 of AdvGAN's paper, on MNIST at epsilon 0.3.

The paper has neither PGD nor AdvGAN on the defended model itself. We measure both,
because a defence that PGD defeats is none.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Tables 1 to 4;
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196), for AI-GAN's time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from advgan_jax.evaluation.challenge import EPSILON
from advgan_jax.reporting import PAPER, heatmap, matrices, time_chart
from advgan_jax.reporting.style import Figure
from advgan_jax.runs.papers.rows import Entry, Row, Table, TargetModel, published

MODELS = ("A", "B", "C")  # two of Tramer's models, and Carlini & Wagner's
DEFENCES = {"adv": "Adv.", "ensemble": "Ens.", "iterative": "Iter. Adv."}
TRANSFER_MODEL = "A"  # on which the paper makes FGSM and Opt. of Table 4


def is_comparable(config: ConfigDict) -> bool:
    """Return whether the papers' data set and bound are configured."""
    return config.dataset == "mnist" and config.epsilon == EPSILON


def attack_table(
    config: ConfigDict, name: str, rows: Sequence[Row], numbers: Mapping[Any, Any]
) -> list[Table]:
    """Build one table with its published numbers and its figure."""
    title = f"Table {name}" if name.isdigit() else name
    columns = list(rows[0].entries)

    def _draw(_: Any, records: Sequence[Mapping[str, Any]]) -> Figure:
        names = [row.name for row in rows[: len(records)]]
        if columns != ["seconds"]:
            ours, theirs = matrices(records, columns)
            return heatmap(ours, names, columns, title, published=theirs)
        ours, theirs = (
            {name: r[c] for name, r in zip(names, records, strict=True) if c in r}
            for c in ("seconds", "seconds" + PAPER)
        )
        label = "seconds for 1,000 images"
        return time_chart(ours, label=label, title=title, published=theirs)

    comparable = numbers if is_comparable(config) else {}
    return [Table(f"table-{name}", title, rows, comparable, _draw)]


def speed(config: ConfigDict) -> list[Table]:
    """Build Table 1: seconds for 1,000 images, on `config.speed_model`.

    AI-GAN attacks the model of its comparison, which trains longer.
    """
    model = TargetModel(config.speed_model)
    other, longer = model._replace(seed=1), model._replace(section="aigan")
    rows = [
        Row(
            {"attack": title},
            {"seconds": Entry("seconds", on, attack, (known,))},
            {"targeted": targeted, "black-box": black_box},
        )
        for title, attack, on, known, targeted, black_box in (
            ("FGSM", "fgsm", model, model, "yes", ""),
            ("Opt. (Carlini & Wagner)", "opt", model, model, "yes", ""),
            ("Opt. (L-BFGS)", "lbfgs", model, model, "yes", ""),
            ("Transfer", "transfer", model, other, "of an ensemble", "yes"),
            ("AdvGAN", "advgan", model, model, "yes", "yes"),
            ("AI-GAN", "aigan", longer, longer, "yes", ""),
        )
    ]
    numbers = published("advgan", "1") if model.name in MODELS else {}
    return attack_table(config, "1", rows, numbers)


def success(config: ConfigDict) -> list[Table]:
    """Build Table 2: accuracy of undefended `config.models`, and AdvGAN's success."""
    rows = []
    for name in config.models:
        model, unseen = TargetModel(name), TargetModel(name, section="blackbox")
        entries = {
            "accuracy": Entry("clean_accuracy", model),
            "semi-white-box": Entry("success", model, "advgan", (model,)),
            "black-box dynamic": Entry("success", unseen, "dynamic", (unseen,)),
            "black-box static": Entry("success", unseen, "static", (unseen,)),
        }
        rows.append(Row({"model": name}, entries))
    return attack_table(config, "2", rows, published("advgan", "2"))


def semi_white_box(config: ConfigDict) -> list[Table]:
    """Build Table 3: the success of attacks that know only the undefended model.

    Both models start from the same weights and see the images in the same order.
    Attacks may transfer more easily than between independent models. 'Opt.' is Carlini
    & Wagner's smallest L2 perturbation at confidence 0, projected to epsilon.
    """
    rows = [
        _defended(config, TargetModel(name, defence), "advgan", known, known)
        for name in config.models
        for known in (TargetModel(name),)
        for defence in DEFENCES
    ]
    return attack_table(config, "3", rows, published("advgan", "3"))


def black_box(config: ConfigDict) -> list[Table]:
    """Build Table 4: the success of attacks that do not know the defended model.

    FGSM and Opt. are made on `config.transfer_model`. AdvGAN is trained on the answers
    of the undefended `config.blackbox_model`; in the last column, on those of the
    defended model.
    """
    undefended = TargetModel(config.blackbox_model, section="blackbox")
    other = TargetModel(config.transfer_model)
    rows = [
        _defended(config, model, "dynamic", undefended, other)
        for model in (undefended._replace(defence=name) for name in DEFENCES)
    ]
    numbers = published("advgan", "4")
    if config.transfer_model != TRANSFER_MODEL:
        numbers = {p: number for p, number in numbers.items() if p[1] == "AdvGAN"}
    return attack_table(config, "4", rows, numbers)


def _defended(
    config: ConfigDict,
    model: TargetModel,
    generator: str,
    known: TargetModel,
    transfer: TargetModel,
) -> Row:
    """Return a row: AdvGAN knows `known`, FGSM and Opt. know `transfer`."""
    attacks = {
        f"{pgd_title(config, 'pgd')}, adaptive": ("pgd", model),
        "FGSM": ("fgsm", transfer),
        "Opt.": ("opt", transfer),
        "AdvGAN": (generator, known),
        "AdvGAN, adaptive": (generator, model),
    }
    entries = {
        column: Entry("success", model, attack, (through,))
        for column, (attack, through) in attacks.items()
    }
    titles = {"model": model.name, "defence": DEFENCES[model.defence]}
    return Row(titles, {"accuracy": Entry("clean_accuracy", model)} | entries)


def pgd_title(config: ConfigDict, name: str) -> str:
    """Return the title of a PGD of `config.attacks`, such as 'PGD-100, 20 restarts'."""
    section = config.attacks[name]
    restarts = section.num_restarts
    return f"PGD-{section.num_steps}" + f", {restarts} restarts" * (restarts > 1)
