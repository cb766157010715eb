"""Rows of the papers' tables as data: what is attacked, with what, and what they print.

A row is a line of a table, a cell one number in it. Nothing here trains or measures;
`cells` does, as a row asks.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ml_collections import ConfigDict

from advgan_jax import build


class Net(NamedTuple):
    """A classifier of a table.

    Attributes:
      model: a name of `models.CLASSIFIERS`.
      defence: how it is trained, see `config.target.defence`.
      seed: added to the run's.
      is_black_box: whether it has seen only the part of the training images that
        leaves the others to an attacker.
    """

    model: str
    defence: str = build.UNDEFENDED
    seed: int = 0
    is_black_box: bool = False

    @property
    def title(self) -> str:
        """As rows of `results.json` and file names call it."""
        parts = [self.model] + [self.defence] * (self.defence != build.UNDEFENDED)
        parts += [f"seed{self.seed}"] * (self.seed > 0)
        return "-".join(parts + ["blackbox"] * self.is_black_box)


class Cell(NamedTuple):
    """One number.

    Attributes:
      metric: `clean_accuracy`; `robust_accuracy`; `success`, over the images that are
        right before the attack; `seconds` for 1,000 images; or, of `advgan` and `aigan`
        towards each class, `success_mean` and `success_best`.
      attack: a section of `config.attacks`; `advgan` or `aigan`, a generator that is
        trained on `through`; `dynamic` or `static`, one that is trained on the answers
        of `through`; None for the clean images.
      on: the net that is measured.
      through: the nets that the attacker has; several are averaged.
      checked: whether it is of the challenge: over all test images, which must pass its
        rules.
    """

    metric: str
    attack: str | None
    on: Net
    through: tuple[Net, ...] = ()
    checked: bool = False


class Row(NamedTuple):
    """A line of a table.

    Attributes:
      titles: the first columns.
      cells: our numbers by column.
      paper: the paper's numbers, for some of the columns.
      facts: further columns that need no measurement.
    """

    titles: dict[str, str]
    cells: dict[str, Cell]
    paper: dict[str, float]
    facts: Mapping[str, str] = MappingProxyType({})

    @property
    def name(self) -> str:
        """Unique within its table."""
        return " ".join(self.titles.values())


def speed(config: ConfigDict) -> list[Row]:
    """Table 1: seconds for 1,000 images.

    Args:
      config: the run's; reads `speed_model`.

    Returns:
      A row for each attack.
    """
    net = Net(config.speed_model)
    other = (Net(config.speed_model, seed=1),)
    return [
        Row(
            {"attack": title},
            {"seconds": Cell("seconds", attack, net, through)},
            {"seconds": paper} if paper else {},
            {"targeted": targeted, "black-box": blackbox},
        )
        for title, attack, through, paper, targeted, blackbox in (
            ("FGSM", "fgsm", (net,), 0.06, "yes", ""),
            ("Opt. (Carlini & Wagner)", "opt", (net,), 10_800.0, "yes", ""),
            ("Opt. (L-BFGS)", "lbfgs", (net,), 10_800.0, "yes", ""),
            ("Transfer", "transfer", other, None, "of an ensemble", "yes"),
            ("AdvGAN", "advgan", (net,), 0.01, "yes", "yes"),
            ("AI-GAN", "aigan", (net,), 0.01, "yes", ""),
        )
    ]


# Accuracy, then success semi-white-box and black-box, dynamic and static.
_SUCCESS = {
    "A": (0.9897, 0.979, 0.934, 0.307),
    "B": (0.9917, 0.971, 0.901, 0.6663),
    "C": (0.9909, 0.983, 0.9402, 0.873),
}


def success(config: ConfigDict) -> list[Row]:
    """Table 2: accuracy of undefended nets, and AdvGAN's success on them.

    Args:
      config: the run's; reads `models`.

    Returns:
      A row for each model.
    """
    columns = ("accuracy", "semi-white-box", "black-box dynamic", "black-box static")
    rows = []
    for model in config.models:
        net, unseen = Net(model), Net(model, is_black_box=True)
        cells = (
            Cell("clean_accuracy", None, net),
            Cell("success", "advgan", net, (net,)),
            Cell("success", "dynamic", unseen, (unseen,)),
            Cell("success", "static", unseen, (unseen,)),
        )
        paper = dict(zip(columns, _SUCCESS.get(model, ()), strict=False))
        rows.append(
            Row({"model": model}, dict(zip(columns, cells, strict=True)), paper)
        )
    return rows


_TITLES = {"adv": "Adv.", "ensemble": "Ens.", "iterative": "Iter. Adv."}
_COLUMNS = ("FGSM", "Opt.", "AdvGAN")
_SEMI = {
    ("A", "adv"): (0.043, 0.046, 0.080),
    ("A", "ensemble"): (0.016, 0.042, 0.063),
    ("A", "iterative"): (0.044, 0.0296, 0.056),
    ("B", "adv"): (0.060, 0.045, 0.072),
    ("B", "ensemble"): (0.027, 0.0318, 0.058),
    ("B", "iterative"): (0.090, 0.030, 0.066),
    ("C", "adv"): (0.027, 0.0295, 0.187),
    ("C", "ensemble"): (0.016, 0.022, 0.135),
    ("C", "iterative"): (0.016, 0.019, 0.126),
}
_BLACK = {
    "adv": (0.031, 0.035, 0.115),
    "ensemble": (0.025, 0.034, 0.103),
    "iterative": (0.024, 0.025, 0.122),
}


def _defended(
    model: str, defence: str, *, is_black_box: bool = False
) -> tuple[Net, dict[str, str], dict[str, Cell]]:
    net = Net(model, defence, is_black_box=is_black_box)
    titles = {"model": model, "defence": _TITLES[defence]}
    return net, titles, {"accuracy": Cell("clean_accuracy", None, net)}


def semi_white_box(config: ConfigDict) -> list[Row]:
    """Table 3: success on defended nets of attacks that know the undefended one.

    Args:
      config: the run's; reads `models`.

    Returns:
      A row for each model and defence; the last column is of an AdvGAN that is trained
      on the defended net itself, which the paper does not have.
    """
    rows = []
    for model in config.models:
        known = (Net(model),)
        for defence in _TITLES:
            net, titles, cells = _defended(model, defence)
            for column, attack in zip(_COLUMNS, ("fgsm", "opt", "advgan"), strict=True):
                cells[column] = Cell("success", attack, net, known)
            cells["AdvGAN, adaptive"] = Cell("success", "advgan", net, (net,))
            paper = _SEMI.get((model, defence), ())
            rows.append(Row(titles, cells, dict(zip(_COLUMNS, paper, strict=False))))
    return rows


def black_box(config: ConfigDict) -> list[Row]:
    """Table 4: success on a defended net of attacks that do not know it.

    Args:
      config: the run's; reads `blackbox_model` and `transfer_model`.

    Returns:
      A row for each defence. FGSM and Opt. are made on `transfer_model`, AdvGAN on the
      answers of the undefended net; the last column, of one on the answers of the
      defended net, is not the paper's.
    """
    model, rows = config.blackbox_model, []
    other = (Net(config.transfer_model),)
    undefended = (Net(model, is_black_box=True),)
    for defence in _TITLES:
        net, titles, cells = _defended(model, defence, is_black_box=True)
        cells["FGSM"] = Cell("success", "fgsm", net, other)
        cells["Opt."] = Cell("success", "opt", net, other)
        cells["AdvGAN"] = Cell("success", "dynamic", net, undefended)
        cells["AdvGAN, adaptive"] = Cell("success", "dynamic", net, (net,))
        paper = _BLACK[defence] if model == "B" else ()
        rows.append(Row(titles, cells, dict(zip(_COLUMNS, paper, strict=False))))
    return rows


# Accuracy of Madry's net on MNIST, by steps and restarts.
_PGD = {(40, 1): 0.932, (100, 1): 0.918, (40, 20): 0.904, (100, 20): 0.893}


def challenge(config: ConfigDict) -> list[Row]:
    """The MNIST challenge: what accuracy attacks leave to a net trained with PGD.

    Args:
      config: the run's; reads `challenge_model`, `num_surrogates` and `attacks`.

    Returns:
      A row for each attack. (The paper's numbers are of Madry's nets: of their paper
      for FGSM and PGD, of the challenge's board for AdvGAN and transferred PGD.)
    """
    net = Net(config.challenge_model, "iterative")
    numbers = range(1, config.num_surrogates + 1)
    surrogates = tuple(net._replace(seed=number) for number in numbers)
    return [
        Row(
            {"attack": title, "attacker has": knowledge},
            {"accuracy": Cell(metric, attack, net, through, checked=True)},
            {} if paper is None else {"accuracy": paper},
        )
        for title, knowledge, metric, attack, through, paper in (
            ("none", "nothing", "clean_accuracy", None, (), 0.988),
            ("FGSM", "the net", "robust_accuracy", "fgsm", (net,), 0.956),
            (*_pgd(config, "pgd"), (net,), _PGD.get(_size(config, "pgd"))),
            (*_pgd(config, "pgd100"), (net,), _PGD.get(_size(config, "pgd100"))),
            ("AdvGAN", "the net", "robust_accuracy", "advgan", (net,), 0.8893),
            (*_pgd(config, "pgd", "surrogates"), surrogates, 0.9354),
            ("AdvGAN", "surrogates", "robust_accuracy", "advgan", surrogates, 0.9276),
        )
    ]


def _size(config: ConfigDict, name: str) -> tuple[int, int]:
    section = config.attacks[name]
    return section.num_steps, section.num_restarts


def _pgd(config: ConfigDict, name: str, knowledge: str = "the net") -> tuple[str, ...]:
    steps, restarts = _size(config, name)
    title = f"PGD-{steps}" + f", {restarts} restarts" * (restarts > 1)
    return title, knowledge, "robust_accuracy", name


def compared(config: ConfigDict) -> list[Row]:
    """AI-GAN's comparison: one generator for all classes against one for each.

    Args:
      config: the run's; reads `aigan_models`.

    Returns:
      A row for each model. Of the paper's table only its best class is known to us.
    """
    return [
        Row(
            {"model": model},
            {
                "AdvGAN, mean of the classes": Cell("success_mean", "advgan", net),
                "AI-GAN, mean of the classes": Cell("success_mean", "aigan", net),
                "AI-GAN, best class": Cell("success_best", "aigan", net),
            },
            {"AI-GAN, best class": 0.99},
        )
        for model in config.aigan_models
        for net in (Net(model),)
    ]


TABLES = {
    "1": speed,
    "2": success,
    "3": semi_white_box,
    "4": black_box,
    "challenge": challenge,
    "aigan": compared,
}
