"""The papers' tables: rows as data, resumed row by row, beside what was printed."""

import csv
import datetime
import json

import jax
import pytest
from ml_collections import ConfigDict

from advgan_jax import parallel, runs
from advgan_jax.evaluation import ROW_KEYS
from advgan_jax.runs.reproduce import TABLES, cells


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


def test_killed_run_never_repeats_a_finished_row(tables, measured, tmp_path):
    asked, stops = measured
    config = tables(table="3")
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
    assert numbers[0] == "0.03"
    assert len(numbers) == 3


def test_one_folder_serves_all_tables_but_no_other_numbers(tables, measured, tmp_path):
    asked, _ = measured
    runs.train(tables(table="2"), tmp_path)
    once = len(asked)
    runs.train(tables(table="2"), tmp_path, resume=True)
    assert len(asked) == once
    runs.train(tables(table="challenge"), tmp_path, resume=True)
    assert {path.stem for path in (tmp_path / "tables").glob("*.md")} == {
        "table-2",
        "table-challenge",
    }
    # Another number of images is another measurement of the same run.
    runs.train(
        tables(table="2", **{"evaluation.num_images": 50}), tmp_path, resume=True
    )
    assert len(asked) > once + len(TABLES["challenge"](tables()))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("1", "speed_model", "small"),
        ("2", "models", ("small", "fc100_100_10")),
        ("3", "models", ("small",)),
        ("4", "blackbox_model", "small"),
        ("4", "transfer_model", "small"),
        ("challenge", "challenge_model", "small"),
        ("challenge", "num_surrogates", 1),  # no row's title tells of it
        ("aigan", "aigan_models", ("small", "fc100_100_10")),
    ],
)
def test_other_nets_add_rows_and_measure_no_other_again(
    tables, measured, tmp_path, name, setting, value
):
    asked, _ = measured
    before = tables(table=name)
    runs.train(before, tmp_path)
    once = len(asked)
    after = tables(table=name, **{setting: value})
    runs.train(after, tmp_path, resume=True)
    known = [row.cells for row in TABLES[name](before)]
    new = [row for row in TABLES[name](after) if row.cells not in known]
    assert new
    assert asked[once:] == [cell for row in new for cell in row.cells.values()]


@pytest.mark.parametrize(
    ("name", "setting", "value", "again"),
    [
        ("2", "advgan.loss.gan_weight", 0.5, True),
        ("2", "blackbox.distilled.steps_per_round", 11, True),
        ("2", "blackbox.queries.batch_size", 7, False),  # how fast is asked
        ("2", "aigan.stage_two.num_epochs", 7, False),
        ("2", "attacks.opt.num_steps", 7, False),
        ("3", "attacks.opt.num_steps", 7, True),
        ("3", "num_timed", 7, False),
        ("1", "num_timed", 7, True),
        ("1", "evaluation.num_images", 7, False),
        ("challenge", "evaluation.num_images", 7, False),  # takes all of them
        ("challenge", "evaluation.batch_size", 7, True),  # each batch has its own draws
        ("aigan", "generators.evaluation.num_images", 7, True),
        ("aigan", "aigan.stage_two.num_epochs", 7, True),
        ("2", "trainings", ConfigDict({"small": {"num_epochs": 3}}), False),
        ("2", "trainings", ConfigDict({"fc100_100_10": {"num_epochs": 3}}), True),
        ("2", "seed", 1, True),
    ],
)
def test_a_setting_measures_again_what_it_decides_and_no_more(
    tables, measured, tmp_path, name, setting, value, again
):
    asked, _ = measured
    runs.train(tables(table=name), tmp_path)
    once = len(asked)
    changed = tables(table=name, **{setting: value})
    with pytest.raises(ValueError, match="holds tables already; continue with"):
        runs.train(changed, tmp_path)
    runs.train(changed, tmp_path, resume=True)
    assert (len(asked) > once) == again


@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("adv.attack.epsilon", ("2", "3")),  # of one row of table 3
        ("trades.divergence_weight", ()),  # of no net of these tables
    ],
)
def test_another_defence_is_measured_again(tables, measured, tmp_path, setting, again):
    asked, _ = measured
    for name in ("2", "3"):
        runs.train(tables(table=name), tmp_path, resume=name != "2")
    once = len(asked)
    change = {f"advgan.target_training.defences.{setting}": 0.125}
    for name in ("2", "3"):
        runs.train(tables(table=name, **change), tmp_path, resume=True)
    first = list(TABLES["3"](tables())[0].cells.values())
    assert asked[once:] == (first if again else [])


def test_processes_agree_on_what_is_there(tables, measured, tmp_path, monkeypatch):
    """One that sees a file late must not go on alone."""
    asked, _ = measured
    runs.train(tables(table="2"), tmp_path)
    once = list(asked)
    monkeypatch.setattr(parallel, "agreed", lambda found: False)
    runs.train(tables(table="2"), tmp_path, resume=True)
    assert asked == once * 2


def test_rows_tell_how_their_nets_were_trained(tables, measured, tmp_path):
    own = {"iterative": {"training": {"num_epochs": 7}}}
    own = ConfigDict({"fc100_100_10": {"learning_rate": 0.02, "defences": own}})
    runs.train(tables(table="3", trainings=own), tmp_path)
    (path,) = (tmp_path / "rows").rglob("*Iter*.json")
    nets = json.loads(path.read_text(encoding="utf8"))["nets"]
    assert set(nets) == {"fc100_100_10", "fc100_100_10-iterative"}
    made = json.loads(path.read_text(encoding="utf8"))["made"]
    assert made["versions"]["jax"]
    assert made["device"].startswith(jax.default_backend())
    assert datetime.date.fromisoformat(made["date"])
    target = nets["fc100_100_10-iterative"]["target_training"]
    assert target["defences"]["iterative"]["attack"]["epsilon"] == 0.3
    assert target["defences"]["iterative"]["training"]["num_epochs"] == 7
    assert nets["fc100_100_10"]["target_training"]["learning_rate"] == 0.02


def test_paper_stands_beside_ours_where_the_data_are_its_own(
    tables, measured, tmp_path, mnist, monkeypatch
):
    monkeypatch.setattr(runs, "load_dataset", lambda *_, **__: mnist)
    config = tables(dataset="mnist", table="challenge", challenge_model="madry")
    runs.train(config, tmp_path)
    first = table(tmp_path, "table-challenge")[0]
    assert first["accuracy (paper)"] == "0.988"
    text = (tmp_path / "tables" / "table-challenge.md").read_text(encoding="utf8")
    assert "0.01 (0.988)" in text


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "evaluation.batch_size",
            0,
            "`evaluation.batch_size` must be a finite number >= 1",
        ),
        ("attacks.pgd.num_restarts", 0, "`num_restarts` must be an integer >= 1"),
        ("attacks.opt.learning_rate", 0.0, "`learning_rate` must be > 0"),
        ("models", (), "`models` must name at least one net"),
        ("aigan_models", (), "`aigan_models` must name at least one net"),
    ],
)
def test_what_would_fail_after_hours_is_refused(
    tables, tmp_path, setting, value, message
):
    with pytest.raises(ValueError, match=message):
        runs.train(tables(table="3", **{setting: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_table_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match=r"Unknown table '5'.*challenge"):
        runs.train(tables(table="5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_results_are_those_of_all_tables_of_the_folder(tables, monkeypatch, tmp_path):
    """As often as they stand behind a number, each once."""

    def measure(workshop, cell):
        images = len(workshop.images())
        row = dict.fromkeys(ROW_KEYS) | {"attack": cell.attack, "num_images": images}
        return 0.5, [row]

    def attacks(rows):
        return sorted(str(row["attack"]) for row in rows)

    monkeypatch.setattr(cells, "measure", measure)
    assert attacks(runs.train(tables(table="aigan"), tmp_path)) == [
        "advgan",
        "aigan",
    ]
    both = runs.train(tables(table="2"), tmp_path, resume=True)
    assert attacks(both) == ["None", "advgan", "aigan", "dynamic", "static"]
    text = (tmp_path / "results.json").read_text(encoding="utf8")
    assert json.loads(text)["rows"] == both
    # Of another number of images there is one table so far; `aigan` has its own number.
    runs.train(tables(table="4"), tmp_path, resume=True)
    other = tables(table="2", **{"evaluation.num_images": 50})
    found = runs.train(other, tmp_path, resume=True)
    kept = {(row["attack"], row["num_images"]) for row in found}
    measured = {(name, 50) for name in (None, "advgan", "dynamic", "static")}
    assert kept == measured | {("advgan", 100), ("aigan", 100)}


def test_rows_on_disk_are_whole(tables, measured, tmp_path):
    runs.train(tables(table="aigan"), tmp_path)
    (path,) = (tmp_path / "rows").rglob("*.json")
    row = json.loads(path.read_text(encoding="utf8"))
    assert list(row["values"].values()) == [0.01, 0.02, 0.03]
