"""Rows of the papers' tables: who attacks whom, and what the papers print."""

import pytest

from advgan_jax.runs.reproduce import TABLES
from advgan_jax.runs.reproduce.rows import Cell, Net

PAPERS = {
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


@pytest.mark.parametrize("name", TABLES)
def test_printed_numbers_have_a_place_and_rows_a_name(load, name):
    config = load(**PAPERS)
    rows = TABLES[name](config)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.cells and set(row.paper) <= set(row.cells) for row in rows)
    assert any(row.paper for row in rows)


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
    ("challenge", "PGD-40 the net", "accuracy", 0.932),
    ("challenge", "PGD-100, 20 restarts the net", "accuracy", 0.893),
    ("challenge", "AdvGAN the net", "accuracy", 0.8893),
    ("challenge", "PGD-40 surrogates", "accuracy", 0.9354),
    ("challenge", "AdvGAN surrogates", "accuracy", 0.9276),
    ("aigan", "C", "AI-GAN, best class", 0.99),
)


@pytest.mark.parametrize(("name", "row", "column", "number"), PRINTED)
def test_printed_numbers(load, name, row, column, number):
    rows = {each.name: each for each in TABLES[name](load(**PAPERS))}
    assert rows[row].paper[column] == number


def test_numbers_of_other_nets_do_not_stand_beside_ours(load):
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
        assert not any(row.paper for row in TABLES[name](config)), name
    assert [list(row.paper) for row in TABLES["4"](config)] == [["AdvGAN"]] * 3
    assert not any(row.paper for row in TABLES["4"](load(blackbox_model="A")))
    seconds = {row.name: row.paper for row in TABLES["1"](load(**PAPERS))}
    assert not seconds["Opt. (L-BFGS)"]
    two = {row.name: row for row in TABLES["challenge"](load(**PAPERS | FEW))}
    assert not two["PGD-40 surrogates"].paper
    assert two["AdvGAN the net"].facts == {
        "printed by": "AdvGAN's paper, Table 5 (unconfirmed)"
    }


def test_attackers_have_what_the_papers_give_them(load):
    config = load(models=("A",), blackbox_model="B", transfer_model="A")
    (first, *_) = TABLES["3"](config)
    assert first.cells["AdvGAN"] == Cell(
        "success", "advgan", Net("A", "adv"), (Net("A"),)
    )
    assert first.cells["AdvGAN, adaptive"].through == (Net("A", "adv"),)
    pgd = first.cells["PGD-3, adaptive"]
    assert pgd == Cell("success", "pgd", Net("A", "adv"), (Net("A", "adv"),))
    (first, *_) = TABLES["4"](config)
    pgd = first.cells["PGD-3, adaptive"]
    assert pgd.through == (pgd.on,) == (Net("B", "adv", is_black_box=True),)
    assert first.cells["FGSM"].through == (Net("A"),)
    assert first.cells["AdvGAN"].through == (Net("B", is_black_box=True),)
    own, *_, last = (row.cells["accuracy"] for row in TABLES["challenge"](config))
    assert own.on not in last.through
    assert len({net.seed for net in last.through}) == config.num_surrogates
