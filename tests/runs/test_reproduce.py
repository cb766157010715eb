"""The papers' tables: rows as data, resumed row by row, beside what was printed."""

import csv
import json

import numpy as np
import pytest

from advgan_jax import runs
from advgan_jax.data import to_float
from advgan_jax.runs.common import Run
from advgan_jax.runs.reproduce import TABLES, cells
from advgan_jax.runs.reproduce.rows import Cell, Net
from advgan_jax.runs.reproduce.workshop import Workshop


@pytest.fixture
def load(get_config):
    def load(**changes):
        return get_config("reproduce", **changes)

    return load


@pytest.fixture
def measured(monkeypatch):
    """Numbers without training; counts what is asked."""
    asked = []

    def measure(workshop, cell):
        asked.append(cell)
        if len(asked) in stops:
            raise KeyboardInterrupt
        return len(asked) / 100, []

    stops = set()
    monkeypatch.setattr(cells, "measure", measure)
    return asked, stops


def table(workdir, name):
    with (workdir / "tables" / f"{name}.csv").open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", TABLES)
def test_printed_numbers_have_a_place_and_rows_a_name(load, name):
    config = load(models=("A", "B", "C"), blackbox_model="B", aigan_models=("A",))
    rows = TABLES[name](config)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.cells and set(row.paper) <= set(row.cells) for row in rows)
    assert any(row.paper for row in rows)


def test_attackers_have_what_the_papers_give_them(load):
    config = load(models=("A",), blackbox_model="B", transfer_model="A")
    (first, *_) = TABLES["3"](config)
    assert first.cells["AdvGAN"] == Cell(
        "success", "advgan", Net("A", "adv"), (Net("A"),)
    )
    assert first.cells["AdvGAN, adaptive"].through == (Net("A", "adv"),)
    (first, *_) = TABLES["4"](config)
    assert first.cells["FGSM"].through == (Net("A"),)
    assert first.cells["AdvGAN"].through == (Net("B", is_black_box=True),)
    own, *_, last = (row.cells["accuracy"] for row in TABLES["challenge"](config))
    assert own.on not in last.through
    assert len({net.seed for net in last.through}) == config.num_surrogates


def test_killed_run_never_repeats_a_finished_row(load, measured, tmp_path):
    asked, stops = measured
    config = load(table="3")
    whole = [c for row in TABLES["3"](config) for c in row.cells.values()]
    stops.add(len(whole) // 3 + 2)  # in the second of three rows
    with pytest.raises(KeyboardInterrupt):
        runs.train(config, tmp_path)
    assert len(table(tmp_path, "table-3")) == 1
    stops.clear()
    runs.train(config, tmp_path, resume=True)
    # Only the cells of the row that was under way are asked again.
    assert asked == [*whole[: len(whole) // 3 + 2], *whole[len(whole) // 3 :]]
    numbers = [row["FGSM"] for row in table(tmp_path, "table-3")]
    assert numbers[0] == "0.02"
    assert len(numbers) == 3


def test_one_folder_serves_all_tables_but_no_other_numbers(load, measured, tmp_path):
    asked, _ = measured
    runs.train(load(table="2"), tmp_path)
    once = len(asked)
    runs.train(load(table="2"), tmp_path, resume=True)
    assert len(asked) == once
    runs.train(load(table="challenge"), tmp_path, resume=True)
    assert {path.stem for path in (tmp_path / "tables").glob("*.md")} == {
        "table-2",
        "table-challenge",
    }
    # Another number of images is another measurement of the same run.
    runs.train(load(table="2", **{"evaluation.num_images": 50}), tmp_path, resume=True)
    assert len(asked) > once + len(TABLES["challenge"](load()))


def test_paper_stands_beside_ours_where_the_data_are_its_own(
    load, measured, tmp_path, mnist, monkeypatch
):
    monkeypatch.setattr(runs, "load_dataset", lambda *_, **__: mnist)
    config = load(dataset="mnist", table="challenge")
    runs.train(config, tmp_path)
    first = table(tmp_path, "table-challenge")[0]
    assert first["accuracy (paper)"] == "0.988"
    text = (tmp_path / "tables" / "table-challenge.md").read_text(encoding="utf8")
    assert "0.01 (0.988)" in text


@pytest.fixture
def workshop(load, digits, tmp_path):
    return Workshop(Run(load(), tmp_path, digits))


class TestCells:
    """With a model that needs no training in the place of the nets."""

    @pytest.fixture(autouse=True)
    def nets(self, monkeypatch, digits_logits_fn):
        monkeypatch.setattr(Workshop, "logits_fn", lambda self, net: digits_logits_fn)

    @pytest.mark.parametrize("attack", ["fgsm", "opt"])
    def test_images_stay_within_the_bound_and_are_made_once(
        self, workshop, digits, attack
    ):
        cell = Cell("success", attack, Net("small", "adv"), (Net("small"),))
        rate, (row,) = cells.measure(workshop, cell)
        assert rate == row["attack_success_rate"]
        assert row["linf_max"] <= 0.3 + 1e-6
        assert row["threat_model"] == "transfer"
        assert row["target_model"] == "small-adv"
        (file,) = (workshop.run.workdir / "crafted").iterdir()
        made = np.load(file)
        assert len(made) == row["num_images"] == 100
        np.save(file, to_float(workshop.images().images))
        assert cells.measure(workshop, cell)[0] == 0

    def test_challenge_refuses_images_that_break_a_rule(self, workshop, digits):
        cell = Cell(
            "robust_accuracy", "fgsm", Net("small"), (Net("small"),), checked=True
        )
        accuracy, (row,) = cells.measure(workshop, cell)
        assert row["num_images"] == len(digits.test)
        assert accuracy == row["robust_accuracy"] < row["clean_accuracy"]
        (file,) = (workshop.run.workdir / "crafted").iterdir()
        moved = np.load(file)
        moved[3] = 1 - moved[3]
        np.save(file, moved)
        with pytest.raises(ValueError, match=r"by at most 0\.3, image 3"):
            cells.measure(workshop, cell)

    def test_seconds_are_for_1000_images(self, workshop):
        net = Net("small")
        seconds, (row,) = cells.measure(workshop, Cell("seconds", "fgsm", net, (net,)))
        assert seconds == pytest.approx(1000 / row["images_per_second"])


def test_unknown_table_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match=r"Unknown table '5'.*challenge"):
        runs.train(load(table="5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_on_disk_are_whole(load, measured, tmp_path):
    runs.train(load(table="aigan"), tmp_path)
    (path,) = (tmp_path / "rows").rglob("*.json")
    row = json.loads(path.read_text(encoding="utf8"))
    assert list(row["values"].values()) == [0.01, 0.02, 0.03]
