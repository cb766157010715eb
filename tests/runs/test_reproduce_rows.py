"""Rows of the papers' tables: who attacks whom, and what the papers print."""

import pytest

from advgan_jax.runs.papers.reproduce import TABLES
from advgan_jax.runs.papers.rows import Entry, TargetModel

PAPERS = {
    "dataset": "mnist",
    "models": ("A", "B", "C"),
    "speed_model": "C",
    "blackbox_model": "B",
    "transfer_model": "A",
    "challenge_model": "madry",
    "num_surrogates": 3,
    "aigan_models": ("A", "C"),
    "attacks.pgd.num_steps": 40,
    "attacks.pgd100.num_steps": 100,
    "attacks.pgd100.num_restarts": 20,
}
FEW = {"num_surrogates": 2}


@pytest.fixture
def load(get_config):
    def load(**changes):
        return get_config("reproduce", **changes)

    return load


def table(config, name):
    (found,) = TABLES[name](config)
    return found


@pytest.mark.parametrize("name", TABLES)
def test_printed_numbers_have_a_place_and_rows_a_name(load, name):
    found = table(load(**PAPERS), name)
    names = {row.name for row in found.rows}
    assert len(names) == len(found.rows)
    columns = {column for row in found.rows for column in row.entries}
    assert found.published
    assert {column for _, column in found.published} <= columns
    # A row may be of a model that is not configured, or of another number of steps.
    assert names & {row for row, _ in found.published}


# As the papers print them: table, row, column.
PRINTED = (
    ("1", "FGSM", "seconds", 0.06),
    ("1", "Opt. (Carlini & Wagner)", "seconds", "> 10800"),
    ("1", "AdvGAN", "seconds", "< 0.01"),
    ("2", "A", "accuracy", 0.9897),
    ("2", "B", "semi-white-box", 0.971),
    ("2", "C", "black-box dynamic", 0.9402),
    ("2", "A", "black-box static", 0.307),
    ("3", "A Adv.", "FGSM", 0.043),
    ("3", "B Iter. Adv.", "Opt.", 0.030),
    ("3", "C Ens.", "AdvGAN", 0.135),
    ("4", "B Adv.", "Opt.", 0.035),
    ("4", "B Iter. Adv.", "AdvGAN", 0.122),
    ("challenge", "none nothing", "accuracy", 0.988),
    ("challenge", "PGD-40 the model", "accuracy", 0.932),
    ("challenge", "PGD-100, 20 restarts the model", "accuracy", 0.893),
    ("challenge", "AdvGAN the model", "accuracy", 0.8893),
    ("challenge", "PGD-40 surrogates", "accuracy", 0.9354),
    ("challenge", "AdvGAN surrogates", "accuracy", 0.9276),
    ("aigan", "C", "AI-GAN, best class", 0.99),
)


@pytest.mark.parametrize(("name", "row", "column", "number"), PRINTED)
def test_printed_numbers(load, name, row, column, number):
    found = table(load(**PAPERS), name)
    assert row in {each.name for each in found.rows}
    assert found.published[row, column] == number


def shown(found):
    """What the papers print for rows that the table has."""
    names = {row.name for row in found.rows}
    return {place for place in found.published if place[0] in names}


def test_numbers_of_other_models_do_not_stand_beside_ours(load):
    """Nor do bounds of one attack beside another, nor a board's three surrogates."""
    changes = {
        "speed_model": "small",
        "transfer_model": "C",
        "challenge_model": "small",
        "aigan_models": ("small",),
        "models": ("small",),
    }
    config = load(**(PAPERS | changes))
    for name in ("1", "2", "3", "challenge", "aigan"):
        assert not shown(table(config, name)), name
    assert {column for _, column in shown(table(config, "4"))} == {"AdvGAN"}
    assert not shown(table(load(**(PAPERS | {"blackbox_model": "A"})), "4"))
    seconds = table(load(**PAPERS), "1").published
    assert ("Opt. (L-BFGS)", "seconds") not in seconds
    two = table(load(**PAPERS | FEW), "challenge")
    assert ("PGD-40 surrogates", "accuracy") not in two.published
    facts = {row.name: row.facts for row in two.rows}
    assert facts["AdvGAN the model"] == {
        "printed by": "AdvGAN's paper, Table 5 (unconfirmed)"
    }


@pytest.mark.parametrize("change", [{"dataset": "digits"}, {"epsilon": 0.2}])
def test_numbers_of_another_data_set_or_bound_are_not_comparable(load, change):
    config = load(**(PAPERS | change))
    assert not any(table(config, name).published for name in TABLES)


def test_attackers_have_what_the_papers_give_them(load):
    config = load(models=("A",), blackbox_model="B", transfer_model="A")
    first = table(config, "3").rows[0]
    assert first.entries["AdvGAN"] == Entry(
        "success", TargetModel("A", "adv"), "advgan", (TargetModel("A"),)
    )
    assert first.entries["AdvGAN, adaptive"].through == (TargetModel("A", "adv"),)
    pgd = first.entries["PGD-3, adaptive"]
    assert pgd == Entry(
        "success", TargetModel("A", "adv"), "pgd", (TargetModel("A", "adv"),)
    )
    first = table(config, "4").rows[0]
    pgd = first.entries["PGD-3, adaptive"]
    assert pgd.through == (pgd.on,) == (TargetModel("B", "adv", section="blackbox"),)
    assert first.entries["FGSM"].through == (TargetModel("A"),)
    assert first.entries["AdvGAN"].through == (TargetModel("B", section="blackbox"),)
    rows = table(config, "challenge").rows
    own, *_, last = (row.entries["accuracy"] for row in rows)
    assert own.on not in last.through
    assert len({model.seed for model in last.through}) == config.num_surrogates
