"""Rows of the papers' tables as data: what is attacked, with what, and what they print.

A row is a line of a table, a cell one number in it. Nothing here trains or measures;
`cells` does, as a row asks.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ml_collections import ConfigDict

from advgan_jax.runs import from_config
from advgan_jax.runs.reproduce import paper


class Net(NamedTuple):
    """A classifier of a table.

    Attributes:
      model: a name of `models.CLASSIFIERS`.
      defence: how it is trained, see `config.target_training.defence`.
      seed: added to the run's.
      is_black_box: whether it has seen only the part of the training images that
        leaves the others to an attacker.
    """

    model: str
    defence: str = from_config.UNDEFENDED
    seed: int = 0
    is_black_box: bool = False

    @property
    def title(self) -> str:
        """As rows of `results.json` and file names call it."""
        parts = [self.model] + [self.defence] * (self.defence != from_config.UNDEFENDED)
        parts += [f"seed{self.seed}"] * (self.seed > 0)
        return "-".join(parts + ["blackbox"] * self.is_black_box)


class Cell(NamedTuple):
    """One number.

    Attributes:
      metric: `clean_accuracy`; `robust_accuracy`; `success`, over the images that are
        right before the attack; `seconds` for 1,000 images; or, of `advgan` and `aigan`
        towards each class, `success_mean` and `success_best`.
      attack: a section of `config.attacks`; `advgan` or `aigan`, a generator that is
        trained on `through`; `fitted`, one that is trained on the very images that it
        attacks; `dynamic` or `static`, one that is trained on the answers of `through`;
        None for the clean images.
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
      paper: the paper's numbers, for some of the columns; text where it prints a bound.
      facts: further columns that need no measurement.
    """

    titles: dict[str, str]
    cells: dict[str, Cell]
    paper: Mapping[str, float | str]
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
    known = paper.SECONDS if config.speed_model in paper.MODELS else {}
    return [
        Row(
            {"attack": title},
            {"seconds": Cell("seconds", attack, net, through)},
            {"seconds": known[title]} if title in known else {},
            {"targeted": targeted, "black-box": blackbox},
        )
        for title, attack, through, targeted, blackbox in (
            ("FGSM", "fgsm", (net,), "yes", ""),
            ("Opt. (Carlini & Wagner)", "opt", (net,), "yes", ""),
            ("Opt. (L-BFGS)", "lbfgs", (net,), "yes", ""),
            ("Transfer", "transfer", other, "of an ensemble", "yes"),
            ("AdvGAN", "advgan", (net,), "yes", "yes"),
            ("AI-GAN", "aigan", (net,), "yes", ""),
        )
    ]


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
        known = paper.printed(columns, paper.SUCCESS.get(model))
        rows.append(
            Row({"model": model}, dict(zip(columns, cells, strict=True)), known)
        )
    return rows


_TITLES = {"adv": "Adv.", "ensemble": "Ens.", "iterative": "Iter. Adv."}
_COLUMNS = ("FGSM", "Opt.", "AdvGAN")


def _defended(config: ConfigDict, net: Net) -> tuple[dict[str, str], dict[str, Cell]]:
    """Titles, accuracy, and PGD on the net itself: a defence that fails it is none."""
    titles = {"model": net.model, "defence": _TITLES[net.defence]}
    return titles, {
        "accuracy": Cell("clean_accuracy", None, net),
        f"{_pgd(config, 'pgd')[0]}, adaptive": Cell("success", "pgd", net, (net,)),
    }


def semi_white_box(config: ConfigDict) -> list[Row]:
    """Table 3: success on defended nets of attacks that know the undefended one.

    The known net and the defended one begin with the same weights and see the images in
    the same order, as they share a seed; attacks may pass from one to the other more
    easily than between nets that do not. `Opt.` is Carlini & Wagner's least L2
    perturbation at confidence 0, as far as it stays within epsilon: beyond it is cut.

    Args:
      config: the run's; reads `models` and `attacks.pgd`.

    Returns:
      A row for each model and defence. PGD and the last column's AdvGAN are made on
      the defended net itself; the paper has neither.
    """
    rows = []
    for model in config.models:
        known = (Net(model),)
        for defence in _TITLES:
            net = Net(model, defence)
            titles, cells = _defended(config, net)
            for column, attack in zip(_COLUMNS, ("fgsm", "opt", "advgan"), strict=True):
                cells[column] = Cell("success", attack, net, known)
            cells["AdvGAN, adaptive"] = Cell("success", "advgan", net, (net,))
            numbers = paper.SEMI_WHITE_BOX.get((model, defence))
            rows.append(Row(titles, cells, paper.printed(_COLUMNS, numbers)))
    return rows


def black_box(config: ConfigDict) -> list[Row]:
    """Table 4: success on a defended net of attacks that do not know it.

    Args:
      config: the run's; reads `blackbox_model`, `transfer_model` and `attacks.pgd`.

    Returns:
      A row for each defence. FGSM and Opt. (see `semi_white_box`) are made on
      `transfer_model`, AdvGAN on the answers of the undefended net. Not the paper's are
      PGD on the defended net, and the last column's AdvGAN on that net's answers.
    """
    model, rows = config.blackbox_model, []
    other = (Net(config.transfer_model),)
    undefended = (Net(model, is_black_box=True),)
    for defence in _TITLES:
        net = Net(model, defence, is_black_box=True)
        titles, cells = _defended(config, net)
        cells["FGSM"] = Cell("success", "fgsm", net, other)
        cells["Opt."] = Cell("success", "opt", net, other)
        cells["AdvGAN"] = Cell("success", "dynamic", net, undefended)
        cells["AdvGAN, adaptive"] = Cell("success", "dynamic", net, (net,))
        known = dict(paper.printed(_COLUMNS, paper.BLACK_BOX[defence]))
        if config.transfer_model != paper.TRANSFER_MODEL:
            del known["FGSM"], known["Opt."]
        is_papers = model == paper.BLACK_BOX_MODEL
        rows.append(Row(titles, cells, known if is_papers else {}))
    return rows


def challenge(config: ConfigDict) -> list[Row]:
    """The MNIST challenge: what accuracy attacks leave to a net trained with PGD.

    Args:
      config: the run's; reads `challenge_model`, `num_surrogates` and `attacks`.

    Returns:
      A row for each attack. The paper's numbers are of Madry's nets; a column says who
      printed them. AdvGAN is there twice: trained on the training images, and fitted to
      those of the challenge, whose labels all other attacks are told, too.
    """
    net = Net(config.challenge_model, "iterative")
    numbers = range(1, config.num_surrogates + 1)
    surrogates = tuple(net._replace(seed=number) for number in numbers)
    by_pgd = paper.PGD_THROUGH.get(config.num_surrogates)
    theirs = paper.CHALLENGE_MODEL, paper.EPSILON
    is_papers = (config.challenge_model, config.epsilon) == theirs
    return [
        Row(
            {"attack": title, "attacker has": knowledge},
            {"accuracy": Cell(metric, attack, net, through, checked=True)},
            {"accuracy": known[0]} if known and is_papers else {},
            {"printed by": known[1]} if known and is_papers else {},
        )
        for title, knowledge, metric, attack, through, known in (
            ("none", "nothing", "clean_accuracy", None, (), paper.CLEAN),
            ("FGSM", "the net", "robust_accuracy", "fgsm", (net,), paper.FGSM),
            (*_pgd(config, "pgd"), (net,), paper.PGD.get(_size(config, "pgd"))),
            (*_pgd(config, "pgd100"), (net,), paper.PGD.get(_size(config, "pgd100"))),
            (*_advgan("the net"), (net,), paper.ADVGAN),
            (*_fitted("the net"), (net,), None),
            (*_pgd(config, "pgd", "surrogates"), surrogates, by_pgd),
            (*_advgan("surrogates"), surrogates, paper.ADVGAN_THROUGH),
            (*_fitted("surrogates"), surrogates, None),
        )
    ]


def _advgan(knowledge: str) -> tuple[str, ...]:
    return "AdvGAN", knowledge, "robust_accuracy", "advgan"


def _fitted(knowledge: str) -> tuple[str, ...]:
    return "AdvGAN, fitted", knowledge, "robust_accuracy", "fitted"


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
      A row for each model. Of the paper's table only its best class is known to us,
      and not of which net.
    """
    return [
        Row(
            {"model": model},
            {
                "AdvGAN, mean of the classes": Cell("success_mean", "advgan", net),
                "AI-GAN, mean of the classes": Cell("success_mean", "aigan", net),
                "AI-GAN, best class": Cell("success_best", "aigan", net),
            },
            {"AI-GAN, best class": paper.AIGAN_BEST} if model in paper.MODELS else {},
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
